// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/run_blocks.hpp"

#include "kernels/cpu/threads.hpp"

namespace syncbn::kernels::cpu {
namespace {

// Work on this many elements takes about as long as starting a parallel region, some microseconds.
constexpr std::int64_t elements_worth_threads = std::int64_t{1} << 16;

}  // namespace

void run_blocks(const Work& work, Order order, void (*body)(const void* context, std::int64_t i),
                const void* context) {
  const auto run = [&](int thread, int threads) {
    const std::int64_t begin = work.blocks * thread / threads;
    const std::int64_t end = work.blocks * (thread + 1) / threads;
    for (std::int64_t i = begin; i < end; ++i) {
      body(context, order == Order::forward ? i : begin + end - 1 - i);
    }
  };
  if (work.blocks == 1 || work.elements <= elements_worth_threads) {
    run(0, 1);
  } else {
    on_threads(run);
  }
}

}  // namespace syncbn::kernels::cpu
