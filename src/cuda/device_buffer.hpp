// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "cuda/stream.hpp"

namespace syncbn::cuda {

struct FreeDevice {
  void operator()(void* memory) const noexcept;
};

/// Owns memory of the device that is current when it is made: aligned to 256 bytes, not cleared. To
/// make and to release one may wait for all work on the device.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;  ///< empty
  explicit DeviceBuffer(std::size_t bytes);

  std::size_t bytes() const { return bytes_; }
  void* data() const { return memory_.get(); }
  template <class T>
  T* as() const {
    return static_cast<T*>(memory_.get());
  }

  /// Copy on the stream. If the host's memory is not pinned, the copy may be done when the call
  /// returns, or the call may wait for the stream.
  void upload(std::span<const std::byte> from, StreamView stream, std::size_t offset = 0);
  void download(std::span<std::byte> to, StreamView stream, std::size_t offset = 0) const;
  /// Copies `bytes` bytes of another buffer, on the stream.
  void copy(const DeviceBuffer& from, std::size_t bytes, StreamView stream, std::size_t offset = 0,
            std::size_t from_offset = 0);
  /// Sets every byte to 0, on the stream.
  void clear(StreamView stream);

 private:
  std::unique_ptr<void, FreeDevice> memory_;
  std::size_t bytes_ = 0;
};

/// Copy as a buffer's functions do, for device memory that somebody else owns.
void upload(std::span<const std::byte> from, void* to, StreamView stream);
void download(const void* from, std::span<std::byte> to, StreamView stream);
void clear(void* memory, std::size_t bytes, StreamView stream);

/// Returns whether work on the device can use the memory as the device's own: not if it is ordinary
/// memory of the host, or another device's.
bool is_memory_of(int device, const void* memory);

}  // namespace syncbn::cuda
