// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions say what a layer on the CPU decides from batch to batch.

#include <cstdint>
#include <optional>
#include <span>

#include "syncbn/dtype.hpp"

#include "channels/finalize.hpp"

namespace syncbn::bn {

/// BatchArrays point to what is kept from batch to batch, [C] each.
struct BatchArrays {
  std::int64_t channels;
  channels::RunningStatistics<> running;  ///< null if there are none
  std::int64_t* batches;                  ///< [1]; null without running statistics
  double* pivot;
  double* next_var = nullptr;  ///< null, or with exact sums: the variance that windows expect
};

/// Sets the pivot to the mean that the running statistics predict, if there are any.
void expect_batch(const BatchArrays& arrays, std::optional<double> momentum, DType dtype);

/// Rounds pivots to what sums of the type can be about.
void round_pivots(const BatchArrays& arrays, DType dtype);

/// A forward takes its sums again so many times at most. If the pivot is off by any amount, the
/// first repeat is about a mean that is right within the rounding of that amount, or about 0 where
/// that rounding is larger than the mean. The second repeat is then about the mean within a few
/// standard deviations. The others are for channels whose squares left float's range.
inline constexpr int most_repeats = 4;

/// Moves the pivots of these channels that are far from the mean which the group's sums give, and
/// returns whether there are any. See move_far_pivots in syncbn/phases.hpp.
bool move_far_pivots(const channels::ChannelRange& channels, std::span<const double> sums,
                     std::span<double> pivot, double eps, DType dtype);

/// Moves the running statistics by a batch that has elements, and chooses the next pivot, which is
/// as near to the mean as `nearness` (channels/pivot.hpp).
void move_to_batch(const BatchArrays& arrays, const channels::StatisticsArrays& statistics,
                   double eps, std::optional<double> momentum, DType dtype, double nearness);

}  // namespace syncbn::bn
