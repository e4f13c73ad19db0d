// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/run_blocks.hpp"

namespace syncbn::kernels::cpu {
namespace {

// About what takes as long as a parallel region costs, some microseconds.
constexpr std::int64_t elements_worth_threads = std::int64_t{1} << 16;

}  // namespace

void run_blocks(const Work& work, void (*body)(const void* context, std::int64_t i),
                const void* context) {
  if (work.blocks == 1 || work.elements <= elements_worth_threads) {
    for (std::int64_t i = 0; i < work.blocks; ++i) {
      body(context, i);
    }
    return;
  }
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < work.blocks; ++i) {
    body(context, i);
  }
}

}  // namespace syncbn::kernels::cpu
