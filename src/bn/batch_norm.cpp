// SPDX-License-Identifier: Apache-2.0
#include "bn/batch_norm.hpp"

#include <exception>
#include <utility>

#include "syncbn/error.hpp"

#include "bn/device/place.hpp"
#include "bn/host/place.hpp"
#include "bn/options.hpp"
#include "bn/record.hpp"
#include "bn/validate.hpp"
#include "comm/device/device_sum.hpp"
#include "comm/group/access.hpp"
#include "comm/group/group.hpp"

namespace syncbn {
namespace {

std::span<double> own_array(const channels::Floats& in_use, const channels::Floats& own,
                            std::int64_t channels) {
  if (!own || in_use.data() != own.data()) {
    return {};
  }
  return {static_cast<double*>(own.data()), static_cast<std::size_t>(channels)};
}

/// `group` is a comm::Group or a comm::DeviceSum. A layer that cannot be is not counted.
template <class Group>
bn::Layer new_layer(std::int64_t channels, const BatchNormOptions& options,
                    const LayerMemory& memory, Device device, Group& group) {
  bn::validated(channels, options);
  bn::require_layer_memory(memory, channels, options, device);
  return {channels, options, bn::identify(options.name, group)};
}

void clear(const channels::Floats& array, const BatchNorm::Impl& of, CudaStream stream) {
  of.place->clear(array.data(),
                  static_cast<std::size_t>(of.layer.channels) * size_of(array.dtype()), stream);
}

}  // namespace

// --- what a call does, wherever the layer is ----------------------------------------------------

BatchNorm::Impl::Impl(std::int64_t channels, Communicator group, const BatchNormOptions& options,
                      const LayerMemory& memory)
    : layer(new_layer(channels, options, memory, Device::cpu(), comm::Access::group(group))) {
  auto made = std::make_unique<bn::HostPlace>(layer, std::move(group), memory.allocate);
  host = made.get();
  place = std::move(made);
  layer.allocate(*place);
  layer.use(memory);
}

BatchNorm::Impl::Impl(std::int64_t channels, DeviceCommunicator group,
                      const BatchNormOptions& options, const LayerMemory& memory)
    : layer(new_layer(channels, options, memory, group.device(), comm::Access::sum(group))) {
  auto made = std::make_unique<bn::DevicePlace>(layer, std::move(group), memory.allocate);
  device = made.get();
  place = std::move(made);
  layer.allocate(*place);
  layer.use(memory);
}

void BatchNorm::Impl::forward(const bn::ForwardArguments& arguments, ForwardRecord& record) try {
  if (arguments.in_place) {
    place->require_invertible();
  }
  bn::validate(arguments, layer, *place, &ForwardRecord::Impl::of(record));
  ForwardRecord::Impl::of(record).make_room(layer, *place);
  place->forward(arguments, ForwardRecord::Impl::of(record));
} catch (const std::exception& error) {
  place->refused(error.what());
  throw;
}

void BatchNorm::Impl::infer(const bn::ForwardArguments& arguments, ForwardRecord* record) try {
  const bool tracked = layer.options.track_running_stats;
  if (record != nullptr && !tracked) {
    throw NotConfigured("layer '" + layer.identity.name +
                        "' keeps no running statistics to freeze. Use forward, or "
                        "track_running_stats.");
  }
  bn::validate(arguments, layer, *place,
               record != nullptr ? &ForwardRecord::Impl::of(*record) : nullptr);
  if (!tracked) {
    place->infer_with_batch(arguments);
    return;
  }
  if (record != nullptr) {
    ForwardRecord::Impl::of(*record).make_room(layer, *place);
  }
  place->infer_with_running(arguments,
                            record != nullptr ? &ForwardRecord::Impl::of(*record) : nullptr);
} catch (const std::exception& error) {
  if (!layer.options.track_running_stats) {  // otherwise no rank waits for this one
    place->refused(error.what());
  }
  throw;
}

void BatchNorm::Impl::backward(const bn::BackwardArguments& arguments,
                               const ForwardRecord& record) try {
  bn::validate(arguments, layer, *place, ForwardRecord::Impl::of(record));
  place->backward(arguments, ForwardRecord::Impl::of(record));
} catch (const std::exception& error) {
  if (!layer.backward_is_local(ForwardRecord::Impl::of(record).note.frozen)) {
    place->refused(error.what());
  }
  throw;
}

// --- the public class ---------------------------------------------------------------------------

BatchNorm::BatchNorm(std::int64_t channels, Communicator group, BatchNormOptions options,
                     const LayerMemory& memory)
    : impl_(std::make_unique<Impl>(channels, std::move(group), options, memory)) {}
BatchNorm::BatchNorm(std::int64_t channels, DeviceCommunicator group, BatchNormOptions options,
                     const LayerMemory& memory)
    : impl_(std::make_unique<Impl>(channels, std::move(group), options, memory)) {}

BatchNorm::BatchNorm(BatchNorm&&) noexcept = default;
BatchNorm& BatchNorm::operator=(BatchNorm&&) noexcept = default;
BatchNorm::~BatchNorm() = default;

std::int64_t BatchNorm::channels() const {
  return impl_->layer.channels;
}

const BatchNormOptions& BatchNorm::options() const {
  return impl_->layer.options;
}

Device BatchNorm::device() const {
  return impl_->place->device();
}

const Communicator& BatchNorm::communicator() const {
  if (impl_->host != nullptr) {
    return impl_->host->communicator();
  }
  throw NotConfigured("layer '" + options().name + "' is on " + to_string(device()) +
                      ". Ask for its device_communicator.");
}

const DeviceCommunicator& BatchNorm::device_communicator() const {
  if (impl_->device != nullptr) {
    return impl_->device->communicator();
  }
  throw NotConfigured("layer '" + options().name + "' is on the CPU. Ask for its communicator.");
}

void BatchNorm::use(const LayerMemory& memory) {
  if (memory.allocate) {
    throw InvalidArgument("layer '" + options().name +
                          "': `allocate` is for a layer that is made. Leave it out.");
  }
  bn::require_layer_memory(memory, channels(), options(), device());
  impl_->layer.use(memory);
}

void BatchNorm::forward(ConstTensorView x, TensorView y, ForwardRecord& record,
                        const ForwardExtras& extras) {
  impl_->forward({.x = x,
                  .residual = extras.residual,
                  .y = y,
                  .position_weights = extras.position_weights,
                  .stream = extras.stream},
                 record);
}

void BatchNorm::forward_in_place(TensorView x, ForwardRecord& record, const ForwardExtras& extras) {
  impl_->forward({.x = x,
                  .residual = extras.residual,
                  .y = x,
                  .position_weights = extras.position_weights,
                  .stream = extras.stream,
                  .in_place = true},
                 record);
}

void BatchNorm::infer(ConstTensorView x, TensorView y, const ForwardExtras& extras) {
  impl_->infer({.x = x,
                .residual = extras.residual,
                .y = y,
                .position_weights = extras.position_weights,
                .stream = extras.stream},
               nullptr);
}

void BatchNorm::infer(ConstTensorView x, TensorView y, ForwardRecord& record,
                      const ForwardExtras& extras) {
  impl_->infer({.x = x,
                .residual = extras.residual,
                .y = y,
                .position_weights = extras.position_weights,
                .stream = extras.stream},
               &record);
}

void BatchNorm::backward(const ForwardRecord& record, ConstTensorView x, ConstTensorView dy,
                         TensorView dx, const BackwardExtras& extras) {
  impl_->backward({.x = x,
                   .dy = dy,
                   .dx = dx,
                   .y = extras.y,
                   .dresidual = extras.dresidual,
                   .position_weights = extras.position_weights,
                   .stream = extras.stream},
                  record);
}

void BatchNorm::backward_in_place(const ForwardRecord& record, ConstTensorView y,
                                  ConstTensorView dy, TensorView dx, const BackwardExtras& extras) {
  impl_->backward({.x = y,
                   .dy = dy,
                   .dx = dx,
                   .y = extras.y,
                   .dresidual = extras.dresidual,
                   .position_weights = extras.position_weights,
                   .stream = extras.stream,
                   .in_place = true},
                  record);
}

std::span<double> BatchNorm::weight() {
  const bn::Layer& of = impl_->layer;
  return own_array(of.state.weight, of.own.weight, of.channels);
}

std::span<double> BatchNorm::bias() {
  const bn::Layer& of = impl_->layer;
  return own_array(of.state.bias, of.own.bias, of.channels);
}

std::span<double> BatchNorm::weight_grad() {
  const bn::Layer& of = impl_->layer;
  return own_array(of.state.weight_grad, of.own.weight_grad, of.channels);
}

std::span<double> BatchNorm::bias_grad() {
  const bn::Layer& of = impl_->layer;
  return own_array(of.state.bias_grad, of.own.bias_grad, of.channels);
}

void BatchNorm::zero_grad(CudaStream stream) {
  if (impl_->layer.options.affine) {
    clear(impl_->layer.state.weight_grad, *impl_, stream);
    clear(impl_->layer.state.bias_grad, *impl_, stream);
  }
}

std::span<double> BatchNorm::running_mean() {
  const bn::Layer& of = impl_->layer;
  return own_array(of.state.running_mean, of.own.running_mean, of.channels);
}

std::span<double> BatchNorm::running_var() {
  const bn::Layer& of = impl_->layer;
  return own_array(of.state.running_var, of.own.running_var, of.channels);
}

std::int64_t* BatchNorm::num_batches_tracked() {
  return impl_->layer.state.num_batches_tracked;
}

std::int64_t BatchNorm::pivot_retries() const {
  return impl_->place->pivot_retries();
}

}  // namespace syncbn
