// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions say what a layer on the CPU decides from batch to batch.

#include <cstdint>
#include <optional>

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

/// Sets the pivot to the mean that the running statistics predict, if there are any. It is not
/// rounded yet.
void expect_batch(const BatchArrays& arrays, std::optional<double> momentum);

/// Rounds pivots to what sums of the type can be about.
void round_pivots(const BatchArrays& arrays, DType dtype);

/// Moves the running statistics by a batch that has elements, and chooses the next pivot, which is
/// as near to the mean as `nearness` (channels/pivot.hpp).
void move_to_batch(const BatchArrays& arrays, const channels::StatisticsArrays& statistics,
                   double eps, std::optional<double> momentum, DType dtype, double nearness);

}  // namespace syncbn::bn
