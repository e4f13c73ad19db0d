// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace syncbn::kernels {

/// Lends memory for the duration of a call and keeps it for the next one, so that nothing is
/// allocated once it has grown to what a training step needs.
class Scratch {
 public:
  /// Takes back all memory that `take` has lent.
  void reset();

  /// Returns `count` values, not initialized, which begin a cache line. Valid until `reset`.
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

  Memory memory_;  ///< the piece that is lent from
  std::size_t size_ = 0;
  std::size_t used_ = 0;
  std::size_t wanted_ = 0;    ///< bytes taken since the last reset
  std::vector<Memory> full_;  ///< smaller pieces, lent until the next reset
};

}  // namespace syncbn::kernels
