// SPDX-License-Identifier: Apache-2.0

// A device that is the host, in place of what a build without CUDA has: its memory is ours, and a
// stream does at once what is put on it. The kernels are those of the device, thread after thread.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "bn/device.hpp"
#include "comm/device/device_sum.hpp"
#include "comm/device/device_sums.hpp"
#include "comm/group/group.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/event.hpp"
#include "kernels/cuda/backward_sums.hpp"
#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/each_channel.hpp"
#include "kernels/cuda/exact_terms.hpp"
#include "kernels/cuda/finalize.hpp"
#include "kernels/cuda/forward_sums.hpp"
#include "kernels/cuda/input_gradient.hpp"
#include "kernels/cuda/normalize.hpp"
#include "kernels/cuda/weight_count.hpp"
#include "kernels/cuda_on_host.hpp"

struct CUevent_st {
  std::chrono::steady_clock::time_point mark;
};

namespace syncbn::cuda {

void FreeDevice::operator()(void* memory) const noexcept {
  std::free(memory);
}

DeviceBuffer::DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
  memory_.reset(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  if (memory_ == nullptr) {
    throw std::bad_alloc();
  }
  std::memset(data(), 0xff, bytes);  // NaNs
}

void DeviceBuffer::upload(std::span<const std::byte> from, StreamView, std::size_t offset) {
  std::memcpy(as<std::byte>() + offset, from.data(), from.size());
}

void DeviceBuffer::download(std::span<std::byte> to, StreamView, std::size_t offset) const {
  std::memcpy(to.data(), as<std::byte>() + offset, to.size());
}

void DeviceBuffer::copy(const DeviceBuffer& from, std::size_t bytes, StreamView, std::size_t offset,
                        std::size_t from_offset) {
  std::memcpy(as<std::byte>() + offset, from.as<std::byte>() + from_offset, bytes);
}

void DeviceBuffer::clear(StreamView) {
  std::memset(data(), 0, bytes_);
}

void upload(std::span<const std::byte> from, void* to, StreamView) {
  std::ranges::copy(from, static_cast<std::byte*>(to));
}

void download(const void* from, std::span<std::byte> to, StreamView) {
  std::copy_n(static_cast<const std::byte*>(from), to.size(), to.begin());
}

void StreamView::synchronize() const {}
void DestroyStream::operator()(StreamHandle) const noexcept {}
Stream make_stream() {
  return nullptr;
}

Event::Event(Timing) : event_(new CUevent_st) {}
void Event::record(StreamView) {
  event_->mark = std::chrono::steady_clock::now();
}
void Event::hold(StreamView) const {}
bool Event::is_done() const {
  return true;
}
void Event::synchronize() const {}
float Event::milliseconds_since(const Event& begin) const {
  return std::chrono::duration<float, std::milli>(event_->mark - begin.event_->mark).count();
}
void DestroyEvent::operator()(CUevent_st* event) const noexcept {
  delete event;
}

}  // namespace syncbn::cuda

namespace syncbn::kernels::cuda {

void forward_sums(const ForwardSums& arguments, Stream) {
  run_forward_sums(arguments, test::OnHost());
}
void finalize(const Finalize& arguments, Stream) {
  run_finalize(arguments, test::OnHost());
}
void fingerprint(const History& arguments, Stream) {
  run_fingerprint(arguments, test::OnHost());
}
void affine(const Affine& arguments, Stream) {
  run_affine(arguments, test::OnHost());
}
void normalize(const Normalize& arguments, Stream) {
  run_normalize(arguments, test::OnHost());
}
void backward_sums(const BackwardSums& arguments, Stream) {
  run_backward_sums(arguments, test::OnHost());
}
void finalize_backward(const FinalizeBackward& arguments, Stream) {
  run_finalize_backward(arguments, test::OnHost());
}
void input_gradient(const InputGradient& arguments, Stream) {
  run_input_gradient(arguments, test::OnHost());
}

void run(const channels::ExpectBatch& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::ChooseForward& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::ChooseBackward& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::PackSums& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::SettleForward& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::SettleBackward& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::PackExponents& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::FitWindows& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void count_weights(const CountWeights& arguments, Stream) {
  run_count_weights(arguments, test::OnHost());
}
void tally(const ForwardTally& arguments, Stream) {
  run_tally(arguments, test::OnHost());
}
void tally(const BackwardTally& arguments, Stream) {
  run_tally(arguments, test::OnHost());
}
void tally_magnitudes(const ForwardTally& arguments, Stream) {
  run_tally_magnitudes(arguments, test::OnHost());
}
void tally_magnitudes(const BackwardTally& arguments, Stream) {
  run_tally_magnitudes(arguments, test::OnHost());
}

}  // namespace syncbn::kernels::cuda

namespace syncbn::comm {
namespace {

class HostSum final : public DeviceSum {
 public:
  explicit HostSum(Communicator ranks) : ranks_(std::move(ranks)) {}

  int rank() const override { return ranks_.rank(); }
  int size() const override { return ranks_.size(); }

  void all_reduce(const Descriptor& of_device, double* values, std::size_t length,
                  Stream) override {
    Descriptor what = of_device;
    what.shared += of_device.shared_on_device != nullptr ? *of_device.shared_on_device : 0;
    ranks_.group().exchange(what, {values, length});
    std::fill_n(values + length, own_words, -1.0);  // they are the exchange's
  }
  void poll() override {}
  void synchronize(Stream) override {}
  std::unique_ptr<DeviceSum> split(int color) override {
    return std::make_unique<HostSum>(ranks_.split(color));
  }

 private:
  Communicator ranks_;
};

}  // namespace

std::unique_ptr<DeviceSum> self_sum() {
  return std::make_unique<HostSum>(Communicator::self());
}
std::unique_ptr<DeviceSum> staged_sum(Communicator host, Deadlines) {
  return std::make_unique<HostSum>(std::move(host));
}

}  // namespace syncbn::comm

namespace syncbn::test {

const char* no_device() {
  return "";
}

DeviceMemory::DeviceMemory(std::span<const std::byte> bytes) {
  if (!bytes.empty()) {
    data_ = std::malloc(bytes.size());
    std::ranges::copy(bytes, static_cast<std::byte*>(data_));
  }
}

DeviceMemory::~DeviceMemory() {
  std::free(data_);
}

void fetch(const void* from, std::span<std::byte> to) {
  std::copy_n(static_cast<const std::byte*>(from), to.size(), to.begin());
}

}  // namespace syncbn::test
