// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "syncbn/batch_norm.hpp"

#include "kernels/count_limbs.hpp"

namespace syncbn::bn {

/// Sum of weights as an integer in units of the smallest float, 32 bits a limb.
using CountLimbs = std::array<double, kernels::count_limbs>;

/// Sum of the weights, without rounding.
CountLimbs count_exactly(const ConstTensorView& x, Weight weight);
double to_count(const CountLimbs& limbs);

}  // namespace syncbn::bn
