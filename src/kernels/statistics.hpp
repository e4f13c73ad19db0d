// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions turn a group's sums into a channel's statistics, update running statistics and
// choose the next pivot. They are the same on the host and in a kernel.

#include <bit>
#include <cmath>
#include <cstdint>

#include "syncbn/dtype.hpp"

#include "core/host_device.hpp"
#include "core/scrambled.hpp"

namespace syncbn {

/// Returns 1 / sqrt(var + eps), or 0 where var + eps is 0: a constant channel without eps then
/// gives beta, as in PyTorch.
SYNCBN_HOST_DEVICE inline double inverse_std(double var, double eps) {
  return var + eps == 0 ? 0 : 1 / std::sqrt(var + eps);
}

/// Returns a mean as a pivot K, about which sums of x - K are taken: the mean itself for f64,
/// rounded to float for other types, whose terms may be of float; 0 where that is not finite.
SYNCBN_HOST_DEVICE inline double to_pivot(double mean, DType dtype) {
  const double pivot = dtype == DType::f64 ? mean : static_cast<double>(static_cast<float>(mean));
  return std::isfinite(pivot) ? pivot : 0;
}

struct ChannelStatistics {
  double mean;
  double var;  ///< biased
};

/// Computes statistics from sum(x - pivot), sum((x - pivot)^2) and the count n. For n = 0, where
/// all sums are 0, the mean is the pivot and the variance 0.
SYNCBN_HOST_DEVICE inline ChannelStatistics statistics_of(double sum, double sum_sq, double n,
                                                          double pivot) {
  const double count = n > 0 ? n : 1;
  const double offset = sum / count;
  const double var = sum_sq / count - offset * offset;
  return {pivot + offset, var < 0 ? 0 : var};  // a NaN stays
}

/// Returns a running value after another batch, whose value has the share `newest` in it.
SYNCBN_HOST_DEVICE inline double moved(double running, double batch, double newest) {
  // With a share of 1 the earlier value must not matter: 0 * infinity would be a NaN.
  return newest == 1 ? batch : (1 - newest) * running + newest * batch;
}

/// Moves running statistics by the share `newest` towards those of a batch of n > 0 elements.
SYNCBN_HOST_DEVICE inline void move_running(double& running_mean, double& running_var,
                                            const ChannelStatistics& batch, double n,
                                            double newest) {
  running_mean = moved(running_mean, batch.mean, newest);
  // Fewer than two elements have no unbiased variance. Between 1 and 2, where n can only be a sum
  // of weights, n / (n - 1) has no bound.
  if (n >= 2) {
    running_var = moved(running_var, batch.var * (n / (n - 1)), newest);
  }
}

// --- the pivot -----------------------------------------------------------------------------------

/// Returns the share that the initial value still has in running statistics after so many batches,
/// (1 - momentum)^batches. A cumulative average counts as a momentum of 1. The power is taken by
/// squaring, because std::pow gives other bits on a device.
SYNCBN_HOST_DEVICE inline double share_of_start(double momentum, std::int64_t batches) {
  double share = 1;
  double power = 1 - momentum;
  for (std::int64_t left = batches; left > 0; left /= 2) {
    share *= left % 2 == 1 ? power : 1;
    power *= power;
  }
  return share;
}

/// Returns the average of the batches in a running value: removes its initial value `at_start`,
/// whose share in it is `share_of_start` (as Adam corrects its moments: Kingma & Ba 2015, section
/// 3). Returns the running value itself where that share is 1, as before the first batch.
SYNCBN_HOST_DEVICE inline double without_start(double running, double at_start,
                                               double share_of_start) {
  return share_of_start < 1 ? (running - share_of_start * at_start) / (1 - share_of_start)
                            : running;
}

/// Returns r = 3 sqrt(n) 2^-53, the relative rounding error of sums in double of n elements, with
/// sqrt(n) in place of n because rounding errors do not all point the same way. Terms of 16-bit
/// types are of float and partly added in float (kernels.hpp): rounded 13 times at most, they add
/// 13 * 2^-24 to r. With weights, n is their sum; it counts as at least 1 element.
SYNCBN_HOST_DEVICE inline double rounding_of_sums(double n, DType dtype) {
  const double of_terms = size_of(dtype) == 2 ? 13 * 0x1p-24 : 0;
  return 3 * std::sqrt(n < 1 ? 1 : n) * 0x1p-53 + of_terms;
}
/// Returns a bound of (mean - K)^2 / (var + eps): how far a pivot K may be from the mean of n
/// elements. Sums about K carry a relative error of about r (1 + k^2), where r = rounding_of_sums()
/// and k = |mean - K| / std (shifted data; Chan, Golub & LeVeque 1983). Another pivot can remove
/// the share r k^2; it may be 1e-9, 1e-13 for f64, 5e-5 for 16-bit types.
SYNCBN_HOST_DEVICE inline double nearness(double n, DType dtype) {
  const double tolerance = dtype == DType::f64 ? 1e-13 : size_of(dtype) == 2 ? 5e-5 : 1e-9;
  return tolerance / rounding_of_sums(n, dtype);
}
/// The same bound for exact sums, whose windows are many standard deviations wide.
inline constexpr double nearness_of_exact_sums = 64;

/// Returns the pivot for a channel's next sums: the mean that running statistics predict if it is
/// near this batch's mean (`nearness` is the bound), so that a layer that loads the statistics
/// takes the same pivot; otherwise this batch's mean.
SYNCBN_HOST_DEVICE inline double next_pivot(double predicted, const ChannelStatistics& batch,
                                            double eps, double nearness, DType dtype) {
  const double distance = predicted - batch.mean;
  const bool is_near = distance * distance <= nearness * (batch.var + eps);
  return to_pivot(is_near ? predicted : batch.mean, dtype);
}

/// Returns the variance that a channel's next batch is expected to have: the one that running
/// statistics predict if it is within a factor of 16 of this batch's, otherwise this batch's.
SYNCBN_HOST_DEVICE inline double next_variance(double predicted, double batch) {
  constexpr double factor = 16;
  const bool is_near = predicted >= batch / factor && predicted <= batch * factor;
  return is_near ? predicted : batch;
}

/// Hashes one channel's pivot and running statistics. The layer's hash is the sum over channels;
/// ranks compare it, because these values decide how the next batch is summed.
SYNCBN_HOST_DEVICE inline std::uint64_t history_of(std::int64_t c, double pivot,
                                                   double running_mean, double running_var) {
  std::uint64_t print = scrambled(static_cast<std::uint64_t>(c) + 1);
  print = scrambled(print ^ std::bit_cast<std::uint64_t>(pivot));
  print = scrambled(print ^ std::bit_cast<std::uint64_t>(running_mean));
  return scrambled(print ^ std::bit_cast<std::uint64_t>(running_var));
}

}  // namespace syncbn
