// SPDX-License-Identifier: Apache-2.0
#include "kernels/scratch.hpp"

#include <algorithm>
#include <utility>

namespace syncbn::kernels {

void Scratch::reset() {
  full_.clear();
  used_ = 0;
  wanted_ = 0;
}

void* Scratch::take_bytes(std::size_t bytes) {
  constexpr auto round = static_cast<std::size_t>(line);
  bytes = (bytes + round - 1) / round * round;
  wanted_ += bytes;
  if (used_ + bytes > size_) {
    // The new piece has room for all that was taken, so that one is enough after the next reset.
    const std::size_t size = std::max(wanted_, 2 * size_);
    full_.reserve(full_.size() + 1);
    Memory larger(static_cast<std::byte*>(operator new(size, line)));
    full_.push_back(std::exchange(memory_, std::move(larger)));
    size_ = size;
    used_ = 0;
  }
  return memory_.get() + std::exchange(used_, used_ + bytes);
}

}  // namespace syncbn::kernels
