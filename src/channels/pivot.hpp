// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions choose the pivot K of a channel, about which sums of x - K are taken, and tell
// whether it was near enough to the mean. They are the same on the host and in a kernel, and decide
// from values that all ranks share.

#include <cmath>
#include <cstdint>

#include "syncbn/dtype.hpp"

#include "core/host_device.hpp"

#include "channels/statistics.hpp"

namespace syncbn::channels {

/// Returns a mean as a pivot K, about which sums of x - K are taken: the mean itself for f64,
/// rounded to float for other types, whose terms may be of float; 0 where that is not finite.
SYNCBN_HOST_DEVICE inline double to_pivot(double mean, DType dtype) {
  const double pivot = dtype == DType::f64 ? mean : static_cast<double>(static_cast<float>(mean));
  return std::isfinite(pivot) ? pivot : 0;
}

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
/// types are of float and partly added in float (kernels/kernels.hpp): rounded 13 times at most,
/// they add 13 * 2^-24 to r. With weights, n is their sum; it counts as at least 1 element.
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

/// The group's sums of a channel about its pivot K.
struct SumsAboutPivot {
  double sum;     ///< of x - K
  double sum_sq;  ///< of (x - K)^2
  double n;       ///< the count, or the sum of the weights
};

/// Returns the pivot that sums about `pivot` show to be near the mean: the mean that they give, or
/// 0 if that mean is less than what the sums may be off by. n is more than 0.
SYNCBN_HOST_DEVICE inline double nearer_pivot(const SumsAboutPivot& of, double pivot, DType dtype) {
  constexpr double margin = 16;
  const double offset = of.sum / of.n;
  const double mean = pivot + offset;
  const double uncertainty = margin * rounding_of_sums(of.n, dtype) * std::fabs(offset);
  return std::fabs(mean) < uncertainty ? 0 : to_pivot(mean, dtype);
}

/// Tells whether sums lost too much to a pivot far from the mean, and another is nearer. `limit` is
/// nearness() for their n.
SYNCBN_HOST_DEVICE inline bool pivot_is_far(const SumsAboutPivot& of, double pivot, double eps,
                                            double limit, DType dtype) {
  const double offset = of.sum / of.n;
  const double var = of.sum_sq / of.n - offset * offset;
  const double spread = (var > 0 ? var : 0) + eps;
  const bool is_near = std::isfinite(of.sum_sq) && offset * offset <= limit * spread;
  if (is_near || !(of.n > 0) || !std::isfinite(of.sum) || std::isnan(of.sum_sq)) {
    return false;
  }
  return nearer_pivot(of, pivot, dtype) != pivot;
}

/// Tells whether squares of bf16, which are added in float, may have left the range of float, so
/// that the channel is to be summed in double.
SYNCBN_HOST_DEVICE inline bool left_float(const SumsAboutPivot& of, double eps) {
  // Squares of differences that are no smaller than this have all their digits in float.
  constexpr double least = 0x1p-100;
  return of.n > 0 &&
         (!std::isfinite(of.sum) || !std::isfinite(of.sum_sq) || of.sum_sq / of.n + eps < least);
}

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

}  // namespace syncbn::channels
