// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions decide whether sums were about a pivot so far from the mean that they are to be
// taken again, and about which one. They look at the group's sums, so all ranks decide alike.

#include <cstddef>
#include <span>

#include "syncbn/dtype.hpp"

namespace syncbn::bn {

/// A forward takes its sums again so many times at most. If the pivot is off by any amount, the
/// first repeat is about a mean that is right within the rounding of that amount, or about 0 where
/// that rounding is larger than the mean. The second repeat is then about the mean within a few
/// standard deviations. The others are for channels whose squares left float's range.
inline constexpr int most_repeats = 4;

/// Returns whether the sums of a channel lost too much to a pivot far from the mean, and another is
/// nearer. `nearness` is that of kernels/statistics.hpp for the count of these sums.
bool pivot_is_far(std::size_t channel, std::span<const double> sums, std::span<const double> pivot,
                  double eps, double nearness, DType dtype);

/// Moves the pivot of a channel to the mean that its sums give, or to 0 if that mean is less than
/// what the sums may be off by.
void move_pivot(std::size_t channel, std::span<const double> sums, std::span<double> pivot,
                DType dtype);

/// Returns whether squares of bf16, which are added in float, may have left the range of float, so
/// that the channel is to be summed in double.
bool left_float(std::size_t channel, std::span<const double> sums, double eps);

}  // namespace syncbn::bn
