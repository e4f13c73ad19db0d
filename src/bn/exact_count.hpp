// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "syncbn/batch_norm.hpp"

#include "kernels/count_limbs.hpp"

namespace syncbn::bn {

/// These words hold the sum of weights, an integer in units of the smallest float, 32 bits a limb,
/// and how many weights are not 0.
using CountWords = std::array<double, kernels::count_words>;

/// Sums and counts the weights, without rounding.
CountWords count_exactly(const ConstTensorView& x, Weight weight);
double to_count(const CountWords& words);
/// Returns the number of weights that are not 0.
double to_terms(const CountWords& words);

}  // namespace syncbn::bn
