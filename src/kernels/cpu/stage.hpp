// SPDX-License-Identifier: Apache-2.0
#pragma once

// Writing whole cache lines where planes do not end on them.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/partition.hpp"

namespace syncbn::kernels::cpu {

/// How lines are written: `bytes` of them, past the cache if `stream`. `line` is what `from` and
/// `to` are aligned to, and `bytes` a multiple of.
struct LineCopy {
  std::size_t line;
  void (*copy)(const std::byte* from, std::byte* to, std::size_t bytes, bool stream);
};

/// A small piece of a tensor on its way to memory. What is put here one after the other leaves in
/// whole lines, past the cache if wanted. A step may be written beyond the end of what counts: what
/// comes next overwrites it. All sizes are in bytes.
class Stage {
 public:
  Stage(const LineCopy& lines, bool stream) : lines_(lines), stream_(stream) {}

  /// Goes on at `to`. Everything before is in memory then, or on its way if `to` follows it.
  void go_to(std::byte* to);

  /// Where the next bytes go. There is room for a step at least, and if possible for `wanted`.
  std::byte* place(std::size_t wanted);
  std::size_t room() const { return capacity - count_; }

  /// So many have been put there.
  void put(std::size_t bytes) { count_ += bytes; }

  void finish();

 private:
  void write_lines();

  static constexpr std::size_t longest_line = 256;
  static constexpr std::size_t capacity = 4 * longest_step_bytes;

  LineCopy lines_;
  bool stream_;
  std::byte* to_ = nullptr;  ///< where the first byte in the buffer belongs
  std::size_t offset_ = 0;   ///< where it is: as far from the beginning of a line as `to_` is
  std::size_t count_ = 0;
  alignas(longest_line) std::byte buffer_[longest_line + capacity + longest_step_bytes];
};

}  // namespace syncbn::kernels::cpu
