// SPDX-License-Identifier: Apache-2.0
#include "bn/host/place.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/allocate.hpp"
#include "bn/host/in_blocks.hpp"
#include "bn/host/phases.hpp"
#include "bn/validate.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {

HostPlace::HostPlace(Layer& layer, Communicator group, Allocate allocate)
    : host(layer, std::move(group)), allocate_(std::move(allocate)) {}

std::shared_ptr<void> HostPlace::allocate(std::size_t bytes) const {
  return allocate_on(device(), bytes, allocate_);
}

void HostPlace::upload(std::span<const std::byte> from, void* to, CudaStream) const {
  std::ranges::copy(from, static_cast<std::byte*>(to));
}

void HostPlace::download(const void* from, std::span<std::byte> to, CudaStream) const {
  std::copy_n(static_cast<const std::byte*>(from), to.size(), to.begin());
}

void HostPlace::clear(void* memory, std::size_t bytes, CudaStream) const {
  std::memset(memory, 0, bytes);
}

void HostPlace::forward(const ForwardArguments& arguments, ForwardRecord::Impl& record) {
  const DefaultArithmetic arithmetic;
  host.working.count = count_of(arguments.x, arguments.position_weights);
  ForwardPass pass(host, forward_operation(arguments.given()), arguments);
  pass.take();
  pass.end_forward(record);
}

void HostPlace::infer_with_batch(const ForwardArguments& arguments) {
  const DefaultArithmetic arithmetic;
  host.working.count = count_of(arguments.x, arguments.position_weights);
  ForwardPass pass(host, infer_operation(arguments.given()), arguments);
  pass.take();
  pass.end_infer();
}

void HostPlace::infer_with_running(const ForwardArguments& arguments, ForwardRecord::Impl* record) {
  const DefaultArithmetic arithmetic;
  count_of(arguments.x, arguments.position_weights);  // it checks the weights
  host.take_running_statistics(host.working.statistics);
  normalize_channels(host, arguments, all_channels(arguments.x));
  if (record != nullptr) {
    keep_statistics(host, *record);
    record->note_infer(host.layer, arguments);
  }
}

void HostPlace::backward(const BackwardArguments& arguments, const ForwardRecord::Impl& record) {
  const DefaultArithmetic arithmetic;
  host.working.count = count_of(arguments.x, arguments.position_weights);
  BackwardPass pass(host, arguments, record);
  if (host.layer.backward_is_local(record.note.frozen)) {
    in_blocks_here(pass, record.note.blocks);
  } else {
    in_blocks(pass, record.note.blocks, 0);
  }
  pass.end();
}

void HostPlace::require_invertible() const {
  const Layer& layer = host.layer;
  try {
    bn::require_invertible(layer.options.activation, layer.state.weight, layer.channels);
  } catch (const InvalidArgument& error) {
    throw InvalidArgument("layer '" + layer.identity.name + "': " + error.what());
  }
}

void HostPlace::forget(CudaStream) {
  if (host.layer.is_exact()) {
    host.working.exact->forget();
  }
}

void HostPlace::refused(const std::string& why) noexcept {
  host.group().refused(why);
}

}  // namespace syncbn::bn
