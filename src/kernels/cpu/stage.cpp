// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/stage.hpp"

#include <algorithm>
#include <cstring>

namespace syncbn::kernels::cpu {

void Stage::go_to(std::byte* to) {
  if (to != to_ + count_) {
    finish();
    to_ = to;
    offset_ = reinterpret_cast<std::uintptr_t>(to) % lines_.line;
  }
}

std::byte* Stage::place(std::size_t wanted) {
  if (room() < std::clamp(wanted, longest_step_bytes, capacity / 2)) {
    write_lines();
  }
  return buffer_ + offset_ + count_;
}

void Stage::finish() {
  if (count_ > 0) {
    write_lines();
    std::memcpy(to_, buffer_ + offset_, count_);
    to_ += count_;
    offset_ = (offset_ + count_) % lines_.line;
    count_ = 0;
  }
}

void Stage::write_lines() {
  const std::size_t head = std::min(count_, (lines_.line - offset_) % lines_.line);
  if (head > 0) {
    std::memcpy(to_, buffer_ + offset_, head);
  }
  const std::size_t whole = (count_ - head) / lines_.line * lines_.line;
  const std::byte* from = buffer_ + offset_ + head;
  lines_.copy(from, to_ + head, whole, stream_);
  to_ += head + whole;
  count_ -= head + whole;
  offset_ = (offset_ + head) % lines_.line;
  std::memmove(buffer_ + offset_, from + whole, count_);
}

}  // namespace syncbn::kernels::cpu
