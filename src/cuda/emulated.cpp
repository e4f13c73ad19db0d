// SPDX-License-Identifier: Apache-2.0
#include "cuda/emulated.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <utility>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "cuda/capture.hpp"
#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/pinned_buffer.hpp"

namespace syncbn::cuda {
namespace {

/// Streams holds all streams of the process, so that memory outlives the work that uses it.
class Streams {
 public:
  void add(CUstream_st* stream) {
    const std::scoped_lock lock(mutex_);
    all_.insert(stream);
  }
  void remove(CUstream_st* stream) {
    const std::scoped_lock lock(mutex_);
    all_.erase(stream);
  }

  /// Frees memory once every stream has done what was put on it so far. cudaFree waits for that.
  void free_later(void* memory) {
    const std::shared_ptr<void> kept(memory, std::free);
    const std::scoped_lock lock(mutex_);
    for (CUstream_st* stream : all_) {
      stream->put([kept] {});
    }
  }

 private:
  std::mutex mutex_;
  std::set<CUstream_st*> all_;
};

Streams& streams() {
  static auto* const all = new Streams;  // memory may be freed while the process ends
  return *all;
}

/// Allocations knows which memory is the device's.
class Allocations {
 public:
  void add(const void* memory, std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    bytes_[memory] = bytes;
  }
  void remove(const void* memory) {
    const std::scoped_lock lock(mutex_);
    bytes_.erase(memory);
  }
  bool contain(const void* memory) const {
    const std::scoped_lock lock(mutex_);
    const auto next = bytes_.upper_bound(memory);
    if (next == bytes_.begin()) {
      return false;
    }
    const auto& [begin, bytes] = *std::prev(next);
    return memory < static_cast<const std::byte*>(begin) + bytes;
  }

 private:
  mutable std::mutex mutex_;
  std::map<const void*, std::size_t> bytes_;
};

Allocations& allocations() {
  static auto* const all = new Allocations;  // memory may be freed while the process ends
  return *all;
}

/// Returns memory that is aligned as a device's and full of NaNs.
void* aligned_memory(std::size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, bytes) != 0) {
    throw std::bad_alloc();
  }
  return std::memset(memory, 0xff, bytes);
}

std::atomic<bool> all_memory_is_the_devices = false;

}  // namespace

void put_on(StreamHandle stream, std::function<void()> work) {
  if (stream != nullptr) {
    stream->put(std::move(work));
  } else {
    const DefaultArithmetic arithmetic;
    work();
  }
}

void require_cuda() {}
int device_count() {
  return 1;
}
int current_device() {
  return 0;
}
void choose_device(int device) {
  if (device != 0) {
    throw DeviceError("no device " + std::to_string(device) +
                      " (the emulated one is alone). Choose device 0.");
  }
}
DeviceProperties properties_of(int) {
  // A small cache, because a benchmark has tensors that are larger than it.
  return {.name = "emulated: the host runs the kernels of a device", .cache_bytes = 4096};
}
std::string bus_address(int) {
  return "emulated";
}
std::string runtime_version() {
  return "emulated";
}
std::string driver_version() {
  return "emulated";
}
OnDevice::OnDevice(int device) : before_(current_device()) {
  choose_device(device);
}
OnDevice::~OnDevice() {
  static_cast<void>(before_);  // clang calls it unused otherwise
}

void FreeDevice::operator()(void* memory) const noexcept {
  allocations().remove(memory);
  streams().free_later(memory);
}

DeviceBuffer::DeviceBuffer(std::size_t bytes) : memory_(aligned_memory(bytes)), bytes_(bytes) {
  allocations().add(data(), bytes);
}

void DeviceBuffer::upload(std::span<const std::byte> from, StreamView stream, std::size_t offset) {
  assert(offset + from.size() <= bytes_);
  cuda::upload(from, as<std::byte>() + offset, stream);
}

void DeviceBuffer::download(std::span<std::byte> to, StreamView stream, std::size_t offset) const {
  assert(offset + to.size() <= bytes_);
  cuda::download(as<std::byte>() + offset, to, stream);
}

void DeviceBuffer::copy(const DeviceBuffer& from, std::size_t bytes, StreamView stream,
                        std::size_t offset, std::size_t from_offset) {
  assert(offset + bytes <= bytes_ && from_offset + bytes <= from.bytes_);
  put_on(stream, [=, to = as<std::byte>() + offset, data = from.as<std::byte>() + from_offset] {
    std::copy_n(data, bytes, to);
  });
}

void DeviceBuffer::clear(StreamView stream) {
  cuda::clear(data(), bytes_, stream);
}

void clear(void* memory, std::size_t bytes, StreamView stream) {
  put_on(stream, [memory, bytes] { std::memset(memory, 0, bytes); });
}

void count_all_memory_as_the_devices() {
  all_memory_is_the_devices = true;
}

bool is_memory_of(int device, const void* memory) {
  return device == 0 && (all_memory_is_the_devices || allocations().contain(memory));
}

void upload(std::span<const std::byte> from, void* to, StreamView stream) {
  stream.synchronize();  // `from` may be gone when the call has returned
  std::ranges::copy(from, static_cast<std::byte*>(to));
}

void download(const void* from, std::span<std::byte> to, StreamView stream) {
  put_on(stream, [=] { std::copy_n(static_cast<const std::byte*>(from), to.size(), to.begin()); });
}

void FreePinned::operator()(void* memory) const noexcept {
  streams().free_later(memory);
}
PinnedBuffer::PinnedBuffer(std::size_t bytes) : memory_(aligned_memory(bytes)), bytes_(bytes) {}

void StreamView::synchronize() const {
  if (stream_ != nullptr) {
    stream_->synchronize();
  }
}
void DestroyStream::operator()(StreamHandle stream) const noexcept {
  delete stream;
}
Stream make_stream() {
  return Stream(new CUstream_st);
}
bool is_capturing(StreamView) {
  return false;
}

}  // namespace syncbn::cuda

CUstream_st::CUstream_st() : thread_([this] { run(); }) {
  syncbn::cuda::streams().add(this);
}

CUstream_st::~CUstream_st() {
  syncbn::cuda::streams().remove(this);
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
  const syncbn::DefaultArithmetic arithmetic;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ends_ || !work_.empty(); });
    if (work_.empty()) {
      return;
    }
    std::function<void()> work = std::move(work_.front());
    lock.unlock();
    work();
    work = nullptr;  // what it holds goes before anybody hears that it is done
    lock.lock();
    work_.pop_front();
    changed_.notify_all();
  }
}
