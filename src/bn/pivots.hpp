// SPDX-License-Identifier: Apache-2.0
#pragma once

// When sums were about a pivot so far from the mean that they are to be taken again, and about
// which one. Decided from the group's sums, hence alike on every rank.

#include <cstddef>
#include <span>

#include "syncbn/dtype.hpp"

namespace syncbn::bn {

/// How many times a forward takes its sums again at most. From a pivot that is off by any amount,
/// the first repeat is about a mean that is right within the rounding of that amount, or about 0
/// where that rounding is larger than the mean; then the second is about the mean within a few
/// standard deviations. The others are for channels whose squares left float's range.
inline constexpr int most_repeats = 4;

/// Whether the sums of a channel lost too much to a pivot far from the mean, and another is nearer.
/// `nearness`: of these sums' count, as in kernels/statistics.hpp.
bool pivot_is_far(std::size_t channel, std::span<const double> sums, std::span<const double> pivot,
                  double eps, double nearness, DType dtype);

/// The pivot of a channel becomes the mean that its sums give; or 0, if the mean is less than what
/// they may be off by.
void move_pivot(std::size_t channel, std::span<const double> sums, std::span<double> pivot,
                DType dtype);

/// Whether squares of bf16, which are added in float, may have left the range of float, so that a
/// channel's sums are to be taken of double.
bool left_float(std::size_t channel, std::span<const double> sums, double eps);

}  // namespace syncbn::bn
