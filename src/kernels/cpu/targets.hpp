// SPDX-License-Identifier: Apache-2.0
#pragma once

// Include this before any header of Highway. It leaves out the targets that would only repeat
// others here: SSSE3 (the same as SSE4) and, from bit 3 to 7, those beyond AVX3, whose additions
// (dot products, bf16, f16 arithmetic) these kernels have no use for. Their bits are written as
// numbers, because not every Highway has names for them.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | 0xF8)

#include <hwy/targets.h>
