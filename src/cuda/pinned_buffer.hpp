// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

namespace syncbn::cuda {

struct FreePinned {
  void operator()(void* memory) const noexcept;
};

/// Owns pinned host memory, which devices copy from and to on their own. It is not cleared. To make
/// and to release one takes as long as a system call and may wait for devices.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;  ///< empty
  explicit PinnedBuffer(std::size_t bytes);

  std::size_t bytes() const { return bytes_; }
  void* data() const { return memory_.get(); }
  template <class T>
  T* as() const {
    return static_cast<T*>(memory_.get());
  }

 private:
  std::unique_ptr<void, FreePinned> memory_;
  std::size_t bytes_ = 0;
};

}  // namespace syncbn::cuda
