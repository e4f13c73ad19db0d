// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the sums of a group say about a channel, and what running statistics keep of that. The same
// on the host and in a kernel.

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"
#include "core/scrambled.hpp"

namespace syncbn {

/// 1 / sqrt(var + eps), and 0 where that is 0: a constant channel without eps gives beta, as in
/// PyTorch.
SYNCBN_HOST_DEVICE inline double inverse_std(double var, double eps) {
  return var + eps == 0 ? 0 : 1 / std::sqrt(var + eps);
}

/// The mean rounded to float; 0 where that is not finite.
SYNCBN_HOST_DEVICE inline float to_pivot(double mean) {
  const auto rounded = static_cast<float>(mean);
  return std::isfinite(rounded) ? rounded : 0.0F;
}

struct ChannelStatistics {
  double mean;
  double var;  ///< biased
};

/// From sum(x - pivot), sum((x - pivot)^2) and the count n; with n = 0 all sums are 0.
SYNCBN_HOST_DEVICE inline ChannelStatistics statistics_of(double sum, double sum_sq, double n,
                                                          float pivot) {
  const double count = n > 0 ? n : 1;
  const double offset = sum / count;
  const double var = sum_sq / count - offset * offset;
  return {static_cast<double>(pivot) + offset, var < 0 ? 0 : var};  // a NaN stays
}

/// Moves running statistics by the share `newest` towards those of a batch of n > 0 elements.
SYNCBN_HOST_DEVICE inline void move_running(double& running_mean, double& running_var,
                                            const ChannelStatistics& batch, double n,
                                            double newest) {
  running_mean += newest * (batch.mean - running_mean);
  if (n > 1) {  // one element has no unbiased variance
    running_var += newest * (batch.var * (n / (n - 1)) - running_var);
  }
}

/// What running statistics still hold of the value they started with. A cumulative average counts
/// as a momentum of 1. A power by squaring, as std::pow has other bits on a device.
SYNCBN_HOST_DEVICE inline double share_of_start(double momentum, std::int64_t batches) {
  double share = 1;
  double power = 1 - momentum;
  for (std::int64_t left = batches; left > 0; left /= 2) {
    share *= left % 2 == 1 ? power : 1;
    power *= power;
  }
  return share;
}

/// The mean that a running mean foretells, as a pivot: corrected for its start at 0.
SYNCBN_HOST_DEVICE inline float foretold_pivot(double running_mean, double share_of_start) {
  return to_pivot(running_mean / (share_of_start < 1 ? 1 - share_of_start : 1));
}

/// A channel's share of a fingerprint of what the next batch's sums follow from: all channels' are
/// added up.
SYNCBN_HOST_DEVICE inline std::uint64_t history_of(std::int64_t c, float pivot, double running_mean,
                                                   double running_var) {
  std::uint64_t print = scrambled(static_cast<std::uint64_t>(c) + 1);
  print = scrambled(print ^ std::bit_cast<std::uint32_t>(pivot));
  print = scrambled(print ^ std::bit_cast<std::uint64_t>(running_mean));
  return scrambled(print ^ std::bit_cast<std::uint64_t>(running_var));
}

}  // namespace syncbn
