// SPDX-License-Identifier: Apache-2.0
#pragma once

// These steps take exact sums: the same bits however the batch lies on the ranks. They are the same
// on the host and in a kernel. A pass goes
//
//   ChooseForward or ChooseBackward -> (kernels tally) -> PackSums -> (added over the group)
//     -> SettleForward or SettleBackward
//
// Settling finds the channels whose sums are to be taken again. They are marked as wanted, and go
//
//   (kernels tally magnitudes) -> PackExponents -> (added over the group) -> FitWindows
//     -> (kernels tally) -> PackSums -> (added over the group) -> settling
//
// Both sums of a channel are integers in units of a window, which bounds the terms
// (fixed_point.hpp). All ranks choose windows alike, from what they know of earlier steps;
// exact_messages.hpp says how the integers travel. The sums are taken again, in windows of the
// largest terms, where a term was outside of its window, and where the reduced sums show that a
// window was far too wide: at most twice in a forward and once in a backward.
//
// Each channel is decided by itself, from reduced values. So the decisions are the same on every
// rank, in however many blocks, and for any distribution of the batch.
//
// Accuracy. A channel has N elements whose weights w are not 0, and W is the sum of these weights.
// With d = x - K and the offset o = mean - K, the sums of w d and w d^2 give
// var = sum(w d^2) / W - o^2. With g1 and g2 the units of the first and the second sum (f64: the
// finer ones) and u = 2^-53, the error of var has three parts:
//
//   N/W g2 / 2 + m (2 |o| + m), m = N/W g1 / 2   Units: a term is off by half a unit, whatever its
//                                                weight. m is the error of the mean.
//   11 u o^2 + 5 u var     The end: each sum is rounded to double twice, and each quotient, W, o^2
//                          and the difference once.
//   3 u o^2 + 5 u var      The terms: d, as if x were off by u |d|; w d, as if w were off by u w;
//                          and the square, where the processor cannot fuse its rounding with that
//                          to units.
//
// The sums are taken again if the first part, plus 2^-49 o^2 for the 14 u o^2 of the others,
// exceeds 2^-25 (var + eps), f64 2^-47 (var + eps). The o^2 is counted only if another pivot is
// much nearer to the mean and so would reduce it. The shares of var, 10 u, are not counted; they
// leave f64 below 1e-14. The sums are also taken again if m exceeds the same fraction of
// sqrt(var + eps): small weights let large differences into narrow windows.
//
// The window of a forward is 2^8 standard deviations wide, as estimated from earlier steps, so
// g2 / 2 is below 2^-33 of the variance. That is enough for weights of 2^-8 on average. With
// smaller ones, and with larger ones that leave the window, sums are taken twice in every step.
//
// A repeat's windows are at most 4 times as wide as the largest terms. As w d^2 <= W (var + o^2),
// and so w |d| <= W sqrt(var + o^2), the units' share is below N 2^-46 (var + o^2), f64 N 2^-96,
// whatever the weights. A repeat takes as pivot K the number nearest to the mean that the sums
// before gave: a float, for f64 a double. There is a second repeat if there were no such sums, as a
// term was outside of its window, or if the mean was too far from K. So
//
//   |var's error| <= 2^-25 (var + eps)                         f32, f16, bf16
//   |var's error| <= 1e-14 (var + eps) + 2^-49 (mean - K)^2    f64
//
// With outliers, the first term is N 2^-46 var instead. The error of the mean is the same fraction
// of sqrt(var + eps), plus 2^-50 (|mean| + sqrt(var)) from rounding in double. Values of f32, f16
// and bf16 are floats, so their |mean - K| is no larger than their standard deviation; for f64 it
// is 2^-53 |mean|. When a mean jumps by J from the pivot of earlier steps, K is off by another
// (N 2^-49 + 2^-50) J (f64: 2^-50 J), in that step only. That is too much where J exceeds
// 2^59 N^-3/2 standard deviations (f64: 2^51), unless the mean is below 2^-48 J, where K is 0.
// Values below 2^-1074 are lost, and weighted squares of 2^1019 or more count as infinite.

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"

#include "channels/exact_channels.hpp"
#include "channels/exact_messages.hpp"
#include "channels/windows.hpp"

namespace syncbn::channels {

// --- the first windows of a pass -----------------------------------------------------------------

/// Sets all words of a channel's tally to 0.
SYNCBN_HOST_DEVICE inline void clear_tally(const ExactChannels& of, std::int64_t c) {
  for (int k = 0; k < tally_words; ++k) {
    of.tally(k, c) = 0;
  }
}

/// Sets a channel's first windows in a pass. If they are not known, the channel is marked as having
/// a term outside of its window.
SYNCBN_HOST_DEVICE inline void set_windows(const ExactChannels& of, std::int64_t c,
                                           const Windows& windows) {
  of.first_window[c] = windows.first;
  of.second_window[c] = windows.second;
  of.wanted[c] = windows.known ? 1 : 0;
  of.first_special[c] = of.second_special[c] = 0;
  clear_tally(of, c);
  of.tally(tally_words - 1, c) = windows.known ? 0 : outside_mark;
}

SYNCBN_HOST_DEVICE inline void set_count(const ExactChannels& of, const CountLimbs& limbs) {
  for (int i = 0; i < count_words; ++i) {
    of.count[i] = limbs[static_cast<std::size_t>(i)];
  }
}

/// Chooses a forward's windows from the variance that is expected of the batch. `count` is this
/// rank's.
struct ChooseForward {
  ExactPass pass;
  CountLimbs count;
  double eps;
  double* pivot;  ///< [C] rounded to what sums may be about

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return pass.range; }
  SYNCBN_HOST_DEVICE void once() const { set_count(pass.of, count); }
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    pivot[c] = to_exact_pivot(pivot[c], pass.fine);
    set_windows(pass.of, c, forward_windows(pass.of.var[c], eps, pivot[c]));
  }
};

/// Chooses a backward's windows from the last backward's largest |dz|.
struct ChooseBackward {
  ExactPass pass;
  CountLimbs count;
  const double* mean;    ///< [C]
  const double* invstd;  ///< [C]

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return pass.range; }
  SYNCBN_HOST_DEVICE void once() const { set_count(pass.of, count); }
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    set_windows(pass.of, c, backward_windows(pass.of.gradient_exponent[c], mean[c], invstd[c]));
  }
};

// --- the group's sums ----------------------------------------------------------------------------

/// Makes a channel wanted if its sums are to be taken again, and clears its magnitudes then.
SYNCBN_HOST_DEVICE inline void want(const ExactChannels& of, std::int64_t c, bool again) {
  of.wanted[c] = again ? 1 : 0;
  for (int k = 0; k < magnitude_words && again; ++k) {
    of.magnitude(k, c) = 0;
  }
}

/// Reads a forward's sums from the message of all ranks, and makes the channels wanted whose sums
/// are to be taken again. `round` is 0, 1, ... in the pass; after the last round no channel is
/// wanted.
struct SettleForward {
  static constexpr int rounds = 3;

  ExactPass pass;
  const double* message;
  int round;
  double eps;
  double* pivot;  ///< [C] moved to the mean where the sums are to be taken about it
  double* sums;   ///< [2C + 1] written

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return pass.range; }
  SYNCBN_HOST_DEVICE void once() const {
    sums[2 * pass.of.channels] = GroupCount(pass, message).weights;
  }
  SYNCBN_HOST_DEVICE GroupCount known() const { return GroupCount(pass, message); }
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c, const GroupCount& count) const {
    const GroupSums of(pass, message, c);
    sums[c] = of.first;
    sums[pass.of.channels + c] = of.second;
    const bool again = round + 1 < rounds && must_repeat(of, count, c);
    want(pass.of, c, again);
    if (again && !of.outside) {
      pivot[c] = nearest_pivot(of.first / count.weights, pivot[c], pass.fine);
    }
  }

 private:
  SYNCBN_HOST_DEVICE bool must_repeat(const GroupSums& of, const GroupCount& count,
                                      std::int64_t c) const {
    const bool fitted = round > 0;
    if (of.outside) {
      return !fitted;
    }
    if (pass.of.first_special[c] != 0 || pass.of.second_special[c] != 0) {
      return false;
    }
    const ForwardTotals totals{
        .sum = of.first, .sum_sq = of.second, .count = count.weights, .terms = count.terms};
    const Windows windows{pass.of.first_window[c], pass.of.second_window[c], true};
    return is_too_coarse(totals, windows, pivot[c], eps, pass.fine, fitted);
  }
};

/// Does the same for a backward. In addition writes this rank's own sums, and keeps the exponent of
/// the largest |dz| for the next backward's windows.
struct SettleBackward {
  static constexpr int rounds = 2;

  ExactPass pass;
  const double* message;
  int round;
  double* sums;      ///< [2C + 1] written
  double* own_sums;  ///< [2C + 1] this rank's sums; all but the count are written

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return pass.range; }
  SYNCBN_HOST_DEVICE void once() const {
    sums[2 * pass.of.channels] = GroupCount(pass, message).weights;
  }
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const ExactChannels& of = pass.of;
    const GroupSums group(pass, message, c);
    const OwnTally own(pass, c);
    sums[c] = group.first;
    sums[of.channels + c] = group.second;
    own_sums[c] = own_sum(c, 0, of.first_special[c], own.first, of.first_window[c]);
    own_sums[of.channels + c] =
        own_sum(c, 1, of.second_special[c], own.second, of.second_window[c]);

    const int exponent = largest_exponent(group.powers, of.first_window[c]);
    const bool again =
        round + 1 < rounds && (group.outside || is_too_wide(of.first_window[c], exponent));
    want(of, c, again);
    const bool is_special = of.first_special[c] != 0 || of.second_special[c] != 0;
    if (!again && exponent != no_exponent && !is_special) {
      of.gradient_exponent[c] = exponent;
    }
  }

 private:
  SYNCBN_HOST_DEVICE double own_sum(std::int64_t c, int field, double of_group,
                                    const FixedPointSum& sum, int window) const {
    const std::uint64_t mark = pass.of.magnitude(magnitude_words - 1, c);
    const double special = of_group != 0 ? special_of(mark, field) : 0;
    return special != 0 ? special : value_of(sum, window);
  }
};

/// Fits the windows of the wanted channels to the group's largest terms, which the message of all
/// ranks tells.
struct FitWindows {
  ExactPass pass;
  ExponentCode code;
  const double* message;
  const double* mean;  ///< null in a forward, else [C]

  SYNCBN_HOST_DEVICE ChannelRange channels() const { return pass.range; }
  SYNCBN_HOST_DEVICE void once() const {}
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const ExactChannels& of = pass.of;
    if (of.wanted[c] == 0) {
      return;
    }
    const GroupExponents largest(pass, code, message, c);
    of.first_window[c] = fitted_window(largest.first);
    of.second_window[c] = fitted_window(largest.second);
    of.first_special[c] = largest.first_special;
    of.second_special[c] = is_too_large_to_count(largest.second)
                               ? std::numeric_limits<double>::infinity()
                               : largest.second_special;
    if (mean != nullptr && !std::isfinite(mean[c])) {
      // Kernels may add a NaN for places of a vector without an element. How many there are is no
      // property of the batch, so the sum is a NaN in any case.
      of.second_special[c] = std::numeric_limits<double>::quiet_NaN();
    }
    clear_tally(of, c);
  }
};

}  // namespace syncbn::channels
