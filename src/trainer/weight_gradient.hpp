// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace syncbn::trainer {

/// Computes dw [outputs, inputs] = dy^T x of a dense layer, with x [n, inputs] and dy [n, outputs].
/// Products of floats are exact in double, and samples are added in their order, so the bits do not
/// depend on the processor's instructions.
void dense_weight_gradient(std::int64_t n, std::int64_t inputs, std::int64_t outputs,
                           const float* x, const float* dy, double* dw);

}  // namespace syncbn::trainer
