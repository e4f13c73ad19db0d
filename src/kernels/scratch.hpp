// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace syncbn::kernels {

/// Memory for the duration of a call, which the next call finds again: once it has grown to what a
/// step needs, nothing is allocated.
class Scratch {
 public:
  /// What was taken is given back.
  void reset();

  /// `count` values, not initialized, from the beginning of a cache line on. Valid until `reset`.
  template <class T>
  T* take(std::int64_t count) {
    static_assert(std::is_trivial_v<T>);
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  static constexpr std::align_val_t line{64};
  struct Free {
    void operator()(std::byte* memory) const { operator delete(memory, line); }
  };
  using Memory = std::unique_ptr<std::byte, Free>;

  void* take_bytes(std::size_t bytes);

  Memory memory_;  ///< where there is room
  std::size_t size_ = 0;
  std::size_t used_ = 0;
  std::size_t wanted_ = 0;    ///< all that was taken since the last reset
  std::vector<Memory> full_;  ///< what was taken before memory_ had to be replaced
};

}  // namespace syncbn::kernels
