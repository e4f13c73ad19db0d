// SPDX-License-Identifier: Apache-2.0
#pragma once

// The kernels in the vector instructions of the machine they run on, spread over OpenMP threads.

#include "kernels/kernels.hpp"

namespace syncbn::kernels::cpu {

void forward_sums(const ForwardSums& arguments);
void normalize(const Normalize& arguments);
void backward_sums(const BackwardSums& arguments);
void input_gradient(const InputGradient& arguments);

}  // namespace syncbn::kernels::cpu
