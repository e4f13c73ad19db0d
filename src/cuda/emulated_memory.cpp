// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <vector>

#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/emulated.hpp"
#include "cuda/pinned_buffer.hpp"

namespace syncbn::cuda {
namespace {

/// Allocations knows which memory is a device's, and which is pinned.
class Allocations {
 public:
  static constexpr int pinned = -1;  ///< in place of a device

  void add(const void* memory, std::size_t bytes, int device) {
    const std::scoped_lock lock(mutex_);
    all_[memory] = {bytes, device};
  }
  void remove(const void* memory) {
    const std::scoped_lock lock(mutex_);
    all_.erase(memory);
  }
  /// Returns the device whose memory that is, or `pinned`; none if it is ordinary memory.
  std::optional<int> device_of(const void* memory) const {
    const std::scoped_lock lock(mutex_);
    const auto next = all_.upper_bound(memory);
    if (next == all_.begin()) {
      return std::nullopt;
    }
    const auto& [begin, of] = *std::prev(next);
    return memory < static_cast<const std::byte*>(begin) + of.bytes ? std::optional(of.device)
                                                                    : std::nullopt;
  }

 private:
  struct Allocation {
    std::size_t bytes;
    int device;
  };
  mutable std::mutex mutex_;
  std::map<const void*, Allocation> all_;
};

Allocations& allocations() {
  static auto* const all = new Allocations;  // memory may be freed while the process ends
  return *all;
}

/// Returns memory that is aligned as a device's and full of NaNs.
void* allocate(std::size_t bytes, int device) {
  refuse_in_capture("allocating memory");
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, bytes) != 0) {
    throw std::bad_alloc();
  }
  allocations().add(memory, bytes, device);
  return std::memset(memory, 0xff, bytes);
}

/// cudaFree, like cudaFreeHost, waits for what streams have to do.
void free_behind_streams(void* memory) {
  allocations().remove(memory);
  keep_for_streams({memory, std::free});
}

std::atomic<bool> all_memory_is_the_devices = false;

}  // namespace

void FreeDevice::operator()(void* memory) const noexcept {
  free_behind_streams(memory);
}
void FreePinned::operator()(void* memory) const noexcept {
  free_behind_streams(memory);
}

DeviceBuffer::DeviceBuffer(std::size_t bytes)
    : memory_(allocate(bytes, current_device())), bytes_(bytes) {}

PinnedBuffer::PinnedBuffer(std::size_t bytes)
    : memory_(allocate(bytes, Allocations::pinned)), bytes_(bytes) {}

void DeviceBuffer::copy(const DeviceBuffer& from, std::size_t bytes, StreamView stream,
                        std::size_t offset, std::size_t from_offset) {
  assert(offset + bytes <= bytes_ && from_offset + bytes <= from.bytes_);
  copy_on(stream, [=, to = as<std::byte>() + offset, data = from.as<std::byte>() + from_offset] {
    std::copy_n(data, bytes, to);
  });
}

void clear(void* memory, std::size_t bytes, StreamView stream) {
  copy_on(stream, [memory, bytes] { std::memset(memory, 0, bytes); });
}

void count_all_memory_as_the_devices() {
  all_memory_is_the_devices = true;
}

bool is_memory_of(int device, const void* memory) {
  if (all_memory_is_the_devices) {
    return true;
  }
  const std::optional<int> owner = allocations().device_of(memory);
  return owner == device || owner == Allocations::pinned;
}

// The stream reads pinned memory when it gets there. Other memory may be gone by then, and is read
// at once.
void upload(std::span<const std::byte> from, void* to, StreamView stream) {
  if (allocations().device_of(from.data()) == Allocations::pinned) {
    copy_on(stream, [=] { std::ranges::copy(from, static_cast<std::byte*>(to)); });
  } else {
    copy_on(stream, [to, bytes = std::vector(from.begin(), from.end())] {
      std::ranges::copy(bytes, static_cast<std::byte*>(to));
    });
  }
}

void download(const void* from, std::span<std::byte> to, StreamView stream) {
  copy_on(stream, [=] { std::copy_n(static_cast<const std::byte*>(from), to.size(), to.begin()); });
}

}  // namespace syncbn::cuda
