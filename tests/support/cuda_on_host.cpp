// SPDX-License-Identifier: Apache-2.0
#include "support/cuda_on_host.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <future>
#include <new>
#include <utility>

#include "comm/device/cuda/stamp.hpp"
#include "cuda/capture.hpp"
#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/event.hpp"
#include "cuda/pinned_buffer.hpp"
#include "cuda/stream.hpp"

CUstream_st::~CUstream_st() {
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CUstream_st::put(std::function<void()> work) {
  {
    const std::scoped_lock lock(mutex_);
    work_.push_back(std::move(work));
  }
  changed_.notify_all();
}

void CUstream_st::synchronize() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return work_.empty(); });
}

void CUstream_st::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ends_ || !work_.empty(); });
    if (work_.empty()) {
      return;
    }
    const std::function<void()> work = work_.front();
    lock.unlock();
    work();
    lock.lock();
    work_.pop_front();
    changed_.notify_all();
  }
}

struct CUevent_st {
  using Clock = std::chrono::steady_clock;
  /// When the marked place was reached.
  std::shared_future<Clock::time_point> mark;
};

namespace syncbn::cuda {
namespace {

thread_local int current = 0;

void put_on(StreamHandle stream, std::function<void()> work) {
  if (stream == nullptr) {
    work();
  } else {
    stream->put(std::move(work));
  }
}

void* aligned_memory(std::size_t bytes) {
  void* const memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  std::memset(memory, 0xff, bytes);  // NaNs
  return memory;
}

}  // namespace

void require_cuda() {}
int current_device() {
  return current;
}
OnDevice::OnDevice(int device) : before_(std::exchange(current, device)) {}
OnDevice::~OnDevice() {
  current = before_;
}

void FreeDevice::operator()(void* memory) const noexcept {
  std::free(memory);
}

DeviceBuffer::DeviceBuffer(std::size_t bytes) : memory_(aligned_memory(bytes)), bytes_(bytes) {}

void DeviceBuffer::upload(std::span<const std::byte> from, StreamView stream, std::size_t offset) {
  cuda::upload(from, as<std::byte>() + offset, stream);
}

void DeviceBuffer::download(std::span<std::byte> to, StreamView stream, std::size_t offset) const {
  cuda::download(as<std::byte>() + offset, to, stream);
}

void DeviceBuffer::copy(const DeviceBuffer& from, std::size_t bytes, StreamView stream,
                        std::size_t offset, std::size_t from_offset) {
  put_on(stream, [=, to = as<std::byte>() + offset, data = from.as<std::byte>() + from_offset] {
    std::memcpy(to, data, bytes);
  });
}

void DeviceBuffer::clear(StreamView stream) {
  put_on(stream, [to = data(), bytes = bytes_] { std::memset(to, 0, bytes); });
}

void upload(std::span<const std::byte> from, void* to, StreamView stream) {
  stream.synchronize();
  std::ranges::copy(from, static_cast<std::byte*>(to));
}

void download(const void* from, std::span<std::byte> to, StreamView stream) {
  put_on(stream, [=] { std::copy_n(static_cast<const std::byte*>(from), to.size(), to.begin()); });
}

void FreePinned::operator()(void* memory) const noexcept {
  std::free(memory);
}
PinnedBuffer::PinnedBuffer(std::size_t bytes) : memory_(aligned_memory(bytes)), bytes_(bytes) {}

void StreamView::synchronize() const {
  if (stream_ != nullptr) {
    stream_->synchronize();
  }
}
void DestroyStream::operator()(StreamHandle) const noexcept {}
Stream make_stream() {
  return nullptr;
}
bool is_capturing(StreamView) {
  return false;
}

Event::Event(Timing) : event_(new CUevent_st) {}
void Event::record(StreamView stream) {
  const auto reached = std::make_shared<std::promise<CUevent_st::Clock::time_point>>();
  event_->mark = reached->get_future();
  put_on(stream, [reached] { reached->set_value(CUevent_st::Clock::now()); });
}
void Event::hold(StreamView stream) const {
  if (event_->mark.valid()) {
    put_on(stream, [mark = event_->mark] { mark.wait(); });
  }
}
bool Event::is_done() const {
  return !event_->mark.valid() ||
         event_->mark.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}
void Event::synchronize() const {
  if (event_->mark.valid()) {
    event_->mark.wait();
  }
}
float Event::milliseconds_since(const Event& begin) const {
  return std::chrono::duration<float, std::milli>(event_->mark.get() - begin.event_->mark.get())
      .count();
}
void DestroyEvent::operator()(CUevent_st* event) const noexcept {
  delete event;
}

}  // namespace syncbn::cuda

namespace syncbn::comm::cuda {

void launch(const Stamp& kernel, CUstream_st* stream) {
  syncbn::cuda::put_on(stream, kernel);
}

void launch(const Verify& kernel, CUstream_st* stream) {
  syncbn::cuda::put_on(stream, [kernel] {
    for (std::size_t thread = 0; thread < Verify::threads; ++thread) {
      kernel(thread);
    }
  });
}

}  // namespace syncbn::comm::cuda
