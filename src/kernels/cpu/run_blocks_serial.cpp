// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/run_blocks.hpp"

namespace syncbn::kernels::cpu {

void run_blocks(const Work& work, void (*body)(const void* context, std::int64_t i),
                const void* context) {
  for (std::int64_t i = 0; i < work.blocks; ++i) {
    body(context, i);
  }
}

}  // namespace syncbn::kernels::cpu
