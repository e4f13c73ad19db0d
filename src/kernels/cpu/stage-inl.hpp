// SPDX-License-Identifier: Apache-2.0

// Writing whole cache lines where planes do not end on them.

#if defined(SYNCBN_KERNELS_CPU_STAGE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_STAGE_INL
#undef SYNCBN_KERNELS_CPU_STAGE_INL
#else
#define SYNCBN_KERNELS_CPU_STAGE_INL
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <hwy/highway.h>

#include "kernels/cpu/elements-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// A small piece of a tensor on its way to memory. What is put here one after the other leaves in
/// whole lines, past the cache if wanted. A step may be written beyond the end of what counts: what
/// comes next overwrites it.
template <class T>
class Stage {
 public:
  explicit Stage(bool stream) : stream_(stream) {}

  /// Goes on at `to`. Everything before is in memory then, or on its way if `to` follows it.
  void go_to(T* to) {
    if (to != to_ + count_) {
      finish();
      to_ = to;
      offset_ = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) % line_bytes() /
                                          sizeof(T));
    }
  }

  /// Where the next elements go, at least a step of which there is room for.
  T* place() { return buffer_ + offset_ + count_; }
  std::int64_t room() const { return capacity - count_; }

  /// Asks for the memory where the step `ahead` elements from there will go. Without this, writing
  /// lines in a burst waits for each of them; past the cache nothing is waited for.
  HWY_INLINE void prefetch(std::int64_t ahead) const {
    if (!stream_) {
      prefetch_step(static_cast<const T*>(to_ + count_ + ahead));
    }
  }

  /// `count` elements have been put there.
  void put(std::int64_t count) {
    count_ += count;
    if (room() < static_cast<std::int64_t>(max_step<T>)) {
      write_lines();
    }
  }

  void finish() {
    if (count_ > 0) {
      write_lines();
      std::memcpy(to_, buffer_ + offset_, bytes(count_));
      to_ += count_;
      count_ = 0;
    }
  }

 private:
  using Bytes = hn::CappedTag<std::uint8_t, 256>;

  static constexpr std::size_t bytes(std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(T);
  }
  static HWY_INLINE std::size_t line_bytes() {
    return std::max<std::size_t>(64, hn::Lanes(Bytes()));
  }

  // The buffer is as far from the beginning of a line as `to_` is.
  void write_lines() {
    const auto line = static_cast<std::int64_t>(line_bytes() / sizeof(T));
    const std::int64_t head = std::min(count_, (line - offset_) % line);
    if (head > 0) {
      std::memcpy(to_, buffer_ + offset_, bytes(head));
    }
    const std::int64_t lines = (count_ - head) / line * line;
    const T* from = buffer_ + offset_ + head;
    if (stream_) {
      copy<PastCache>(from, to_ + head, bytes(lines));
    } else {
      copy<ThroughCache>(from, to_ + head, bytes(lines));
    }
    to_ += head + lines;
    count_ -= head + lines;
    offset_ = (offset_ + head) % line;
    std::memmove(buffer_ + offset_, from + lines, bytes(count_));
  }

  template <class How>
  static HWY_INLINE void copy(const T* from, T* to, std::size_t bytes) {
    const Bytes d;
    const auto* source = reinterpret_cast<const std::uint8_t*>(from);
    auto* target = reinterpret_cast<std::uint8_t*>(to);
    for (std::size_t at = 0; at < bytes; at += hn::Lanes(d)) {
      cpu::HWY_NAMESPACE::put(d, hn::Load(d, source + at), target + at, How{});
    }
  }

  static constexpr std::int64_t capacity =
      std::max<std::int64_t>(2048 / sizeof(T), 4 * max_step<T>);
  static constexpr std::int64_t most_offset = std::max<std::int64_t>(64 / sizeof(T), max_step<T>);

  bool stream_;
  T* to_ = nullptr;          ///< where the first element in the buffer belongs
  std::int64_t offset_ = 0;  ///< where it is
  std::int64_t count_ = 0;
  HWY_ALIGN T buffer_[most_offset + capacity + max_step<T>];
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_STAGE_INL
