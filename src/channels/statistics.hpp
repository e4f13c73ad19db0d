// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions turn a group's sums into a channel's statistics, and move running statistics.
// They are the same on the host and in a kernel.

#include <cmath>

#include "core/host_device.hpp"

namespace syncbn::channels {

/// Returns 1 / sqrt(var + eps), or 0 where var + eps is 0: a constant channel without eps then
/// gives beta, as in PyTorch.
SYNCBN_HOST_DEVICE inline double inverse_std(double var, double eps) {
  return var + eps == 0 ? 0 : 1 / std::sqrt(var + eps);
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

/// Returns running statistics, whose variance is unbiased, after they have moved by the share
/// `newest` towards those of a batch of n > 0 elements.
SYNCBN_HOST_DEVICE inline ChannelStatistics moved_running(const ChannelStatistics& running,
                                                          const ChannelStatistics& batch, double n,
                                                          double newest) {
  // Fewer than two elements have no unbiased variance. Between 1 and 2, where n can only be a sum
  // of weights, n / (n - 1) has no bound.
  return {moved(running.mean, batch.mean, newest),
          n >= 2 ? moved(running.var, batch.var * (n / (n - 1)), newest) : running.var};
}

}  // namespace syncbn::channels
