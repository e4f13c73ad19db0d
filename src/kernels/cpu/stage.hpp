// SPDX-License-Identifier: Apache-2.0
#pragma once

// Writes whole cache lines where planes do not end on them.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/partition.hpp"

namespace syncbn::kernels::cpu {

/// Says how lines are copied: `bytes` bytes, past the cache if `stream`. `from` and `to` are
/// aligned to `line` bytes, and `bytes` is a multiple of it.
struct LineCopy {
  std::size_t line;
  void (*copy)(const std::byte* from, std::byte* to, std::size_t bytes, bool stream);
};

/// Buffers a small piece of a tensor on its way to memory, so that it is written in whole lines,
/// past the cache if wanted. A step may write beyond the end of what counts: what comes next
/// overwrites that. All sizes are in bytes.
class Stage {
 public:
  Stage(const LineCopy& lines, bool stream) : lines_(lines), stream_(stream) {}

  /// Goes on at `to`. If `to` does not follow what was put so far, that is written to memory.
  void go_to(std::byte* to);

  /// Returns where the next bytes go. There is room for a step at least, and if possible for
  /// `wanted`.
  std::byte* place(std::size_t wanted);
  std::size_t room() const { return capacity - count_; }

  /// Takes over `bytes` that were written at place().
  void put(std::size_t bytes) { count_ += bytes; }

  /// Writes all that was put to memory.
  void finish();

 private:
  void write_lines();

  static constexpr std::size_t longest_line = 256;
  static constexpr std::size_t capacity = 4 * longest_step_bytes;

  LineCopy lines_;
  bool stream_;
  std::byte* to_ = nullptr;  ///< where the first byte in the buffer belongs
  std::size_t offset_ = 0;   ///< where that byte is in buffer_: as far into a line as `to_`
  std::size_t count_ = 0;
  alignas(longest_line) std::byte buffer_[longest_line + capacity + longest_step_bytes];
};

}  // namespace syncbn::kernels::cpu
