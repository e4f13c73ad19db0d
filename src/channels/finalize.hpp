// SPDX-License-Identifier: Apache-2.0
#pragma once

// These steps turn the group's sums into what elements are computed with, and move what a layer
// keeps from batch to batch. They are the same on the host and in a kernel. Arrays are [C], sums
// are [2C + 1] (syncbn/phases.hpp), and `channels` below is C.

#include <bit>
#include <cstddef>
#include <cstdint>

#include "syncbn/dtype.hpp"

#include "core/host_device.hpp"
#include "core/scrambled.hpp"

#include "channels/channel_range.hpp"
#include "channels/floats.hpp"
#include "channels/pivot.hpp"
#include "channels/statistics.hpp"

namespace syncbn::channels {

/// Points to a batch's statistics, and to what its elements are computed with.
struct StatisticsArrays {
  double* mean = nullptr;
  double* var = nullptr;  ///< biased
  double* invstd = nullptr;
  double* scale = nullptr;  ///< gamma * invstd
  double* shift = nullptr;  ///< beta
  double* count = nullptr;  ///< [1] elements per channel in the whole group

  /// Returns how many doubles the arrays of so many channels have.
  static constexpr std::size_t length(std::int64_t channels) {
    return 5 * static_cast<std::size_t>(channels) + 1;
  }
  /// Returns the arrays one behind the other.
  static constexpr StatisticsArrays in(double* memory, std::int64_t channels) {
    return {memory,
            memory + channels,
            memory + 2 * channels,
            memory + 3 * channels,
            memory + 4 * channels,
            memory + 5 * channels};
  }
};

/// Computes statistics from sums about a pivot. With a count of 0: mean = pivot, var = 0.
struct FinalizeStatistics {
  std::int64_t channels;
  const double* sums;
  const double* pivot;
  double eps;
  double* mean;    ///< written
  double* var;     ///< written, biased
  double* invstd;  ///< written

  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const ChannelStatistics of =
        statistics_of(sums[c], sums[channels + c], sums[2 * channels], pivot[c]);
    mean[c] = of.mean;
    var[c] = of.var;
    invstd[c] = inverse_std(of.var, eps);
  }
};

/// Sets scale to gamma * invstd and shift to beta.
template <class Values = ConstFloats>
struct SetAffine {
  Values gamma;   ///< null for 1
  Values beta;    ///< null for 0
  double* scale;  ///< written
  double* shift;  ///< written

  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c, double invstd) const {
    scale[c] = invstd * (gamma ? gamma[c] : 1);
    shift[c] = beta ? beta[c] : 0;
  }
};

/// Sets scale and shift for the statistics of a batch.
struct SetAffineOfBatch {
  ChannelRange range;
  const double* invstd;
  SetAffine<> affine;

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return range; }
  SYNCBN_HOST_DEVICE void once() const {}
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const { affine.of_channel(c, invstd[c]); }
};

/// Takes running statistics for those of a batch, which has no count then.
struct TakeRunningStatistics {
  ChannelRange range;
  ConstFloats mean;
  ConstFloats var;
  double eps;
  ConstFloats gamma;     ///< null for 1
  ConstFloats beta;      ///< null for 0
  StatisticsArrays out;  ///< written

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return range; }
  SYNCBN_HOST_DEVICE void once() const { *out.count = 0; }
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    out.mean[c] = mean[c];
    out.var[c] = var[c];
    out.invstd[c] = inverse_std(out.var[c], eps);
    const SetAffine<> affine{gamma, beta, out.scale, out.shift};
    affine.of_channel(c, out.invstd[c]);
  }
};

/// Computes what an input gradient needs from the group's sums: mean_dz = sum(dz) / n and
/// grad_slope = sum(dz * (x - mean)) / n * invstd^2. Both are 0 for frozen statistics, which are no
/// function of x.
struct SetGradientCoefficients {
  std::int64_t channels;
  const double* sums;
  const double* invstd;
  bool frozen;
  double* mean_dz;     ///< written
  double* grad_slope;  ///< written

  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const double count = sums[2 * channels];
    const double n = count > 0 ? count : 1;
    mean_dz[c] = frozen ? 0 : sums[c] / n;
    grad_slope[c] = frozen ? 0 : sums[channels + c] / n * invstd[c] * invstd[c];
  }
};

/// Adds sums of gradients, this rank's or the group's, to the parameters' gradients.
template <class Values = Floats>
struct AddParameterGradients {
  std::int64_t channels;
  const double* sums;
  const double* invstd;
  Values dgamma;  ///< added to
  Values dbeta;   ///< added to

  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    dbeta.set(c, dbeta[c] + sums[c]);
    dgamma.set(c, dgamma[c] + sums[channels + c] * invstd[c]);
  }
};

// --- from batch to batch -----------------------------------------------------------------------

/// Points to a layer's running statistics, all null if it keeps none.
template <class Values = Floats>
struct RunningStatistics {
  Values mean = {};
  Values var = {};               ///< unbiased
  double* start_mean = nullptr;  ///< the mean before the first batch
  double* start_var = nullptr;   ///< the variance before the first batch
};

/// What follows from the number of batches, a new one included.
struct BatchShares {
  double newest;      ///< the new batch's share in the running statistics
  double start;       ///< what share their start still has
  bool is_first;      ///< the batch is the first one
  std::int64_t next;  ///< the number of batches

  /// `momentum` means nothing for a `cumulative` average.
  SYNCBN_HOST_DEVICE static BatchShares after(std::int64_t batches, double momentum,
                                              bool cumulative) {
    const std::int64_t now = batches + 1;
    return {cumulative ? 1 / static_cast<double>(now) : momentum,
            share_of_start(cumulative ? 1 : momentum, now), batches == 0, now};
  }
};

/// Expects of a layer's next batch what its running statistics predict. That is for a first
/// forward, and the first after a load: later ones start from what the batch before has left.
struct ExpectBatch {
  ChannelRange range;
  RunningStatistics<> running;
  const std::int64_t* batches;  ///< [1] the number of batches so far
  double momentum;              ///< 1 for a cumulative average
  DType dtype;                  ///< of the sums about the pivot
  double* pivot;                ///< written
  double* var;  ///< null, or with exact sums the variance, written if there have been batches

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return range; }
  SYNCBN_HOST_DEVICE void once() const {}
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const double share = share_of_start(momentum, *batches);
    pivot[c] = to_pivot(without_start(running.mean[c], running.start_mean[c], share), dtype);
    if (var != nullptr && *batches > 0) {
      const double expected = without_start(running.var[c], running.start_var[c], share);
      var[c] = expected > 0 ? expected : 0;
    }
  }
};

/// Moves the running statistics by a batch of n > 0 elements.
template <class Values = Floats>
struct MoveRunning {
  RunningStatistics<Values> running;
  BatchShares shares;
  double n;
  const double* mean;  ///< of the batch
  const double* var;   ///< of the batch

  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    if (shares.is_first) {
      running.start_mean[c] = running.mean[c];
      running.start_var[c] = running.var[c];
    }
    const ChannelStatistics next =
        moved_running({running.mean[c], running.var[c]}, {mean[c], var[c]}, n, shares.newest);
    running.mean.set(c, next.mean);
    running.var.set(c, next.var);
  }
};

/// Chooses the pivot of the next batch, after the running statistics have been moved.
template <class Values = Floats>
struct ChooseNextPivot {
  RunningStatistics<Values> running;
  double start_share;  ///< what share their start has in the running statistics
  const double* mean;  ///< of the last batch, which had elements
  const double* var;   ///< of the last batch
  double eps;
  DType dtype;
  double nearness;  ///< how near the pivot should be to the mean (nearness())
  double* pivot;    ///< written
  double*
      next_var;  ///< null, or written with exact sums: the variance that the next windows expect

  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const bool tracked = static_cast<bool>(running.mean);
    const ChannelStatistics batch{mean[c], var[c]};
    const double next_mean =
        tracked ? without_start(running.mean[c], running.start_mean[c], start_share) : batch.mean;
    pivot[c] = next_pivot(next_mean, batch, eps, nearness, dtype);
    if (next_var != nullptr) {
      const double expected =
          tracked ? without_start(running.var[c], running.start_var[c], start_share) : batch.var;
      next_var[c] = next_variance(expected, batch.var);
    }
  }
};

/// Hashes one channel's pivot and running statistics. The layer's hash is the sum over channels;
/// ranks compare it, because these values decide how the next batch is summed.
SYNCBN_HOST_DEVICE inline std::uint64_t history_of(std::int64_t c, double pivot,
                                                   double running_mean, double running_var) {
  std::uint64_t print = scrambled(static_cast<std::uint64_t>(c) + 1);
  print = scrambled(print ^ std::bit_cast<std::uint64_t>(pivot));
  print = scrambled(print ^ std::bit_cast<std::uint64_t>(running_mean));
  return scrambled(print ^ std::bit_cast<std::uint64_t>(running_var));
}

/// Hashes one channel's parameters.
SYNCBN_HOST_DEVICE inline std::uint64_t parameters_of(std::int64_t c, double gamma, double beta) {
  const std::uint64_t print = scrambled(~static_cast<std::uint64_t>(c));
  return scrambled(scrambled(print ^ std::bit_cast<std::uint64_t>(gamma)) ^
                   std::bit_cast<std::uint64_t>(beta));
}

}  // namespace syncbn::channels
