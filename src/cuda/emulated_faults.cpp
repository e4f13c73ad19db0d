// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <atomic>
#include <cstddef>

#include "cuda/emulated.hpp"

namespace syncbn::cuda {
namespace {

constexpr std::size_t calls = static_cast<std::size_t>(Call::graph_replay) + 1;
std::array<std::atomic<int>, calls> left_out;  ///< how many LeavesOut live, by Call

}  // namespace

LeavesOut::LeavesOut(Call what) : what_(what) {
  ++left_out.at(static_cast<std::size_t>(what));
}
LeavesOut::~LeavesOut() {
  --left_out.at(static_cast<std::size_t>(what_));
}

bool is_left_out(Call what) {
  return left_out.at(static_cast<std::size_t>(what)).load(std::memory_order_relaxed) > 0;
}

}  // namespace syncbn::cuda
