// SPDX-License-Identifier: Apache-2.0
#pragma once

// Include before any header of Highway. Leaves out the targets that would only repeat others here:
// SSSE3 (as SSE4) and, from bit 3 to 7, those beyond AVX3, whose additions (dot products, bf16, f16
// arithmetic) these kernels have no use for. By number, as not every Highway has names for them.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | 0xF8)

#include <hwy/targets.h>
