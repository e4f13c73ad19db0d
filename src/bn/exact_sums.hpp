// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sums of a pass that are the same bits however the batch lies on the ranks.
//
// Both sums of a channel are integers in units of a window (kernels/fixed_point.hpp), which all
// ranks choose alike from what they know of earlier steps; exact_pass.hpp says how they travel.
// Where a term was outside of its window, and where the reduced sums show that a window was far too
// wide, the channel's sums are taken once more, in windows of the largest terms.
//
// All decisions come from reduced values, for each channel by itself: alike on every rank, in
// however many blocks, and for any distribution of the batch.
//
// Accuracy. Of N elements whose weights w are not 0 and add up to W, with d = x - K and the offset
// o = mean - K, the sums of w d and w d^2 give var = sum(w d^2) / W - o^2. With g1 and g2 the units
// of either sum (f64: the finer ones) and u = 2^-53, it is off by
//
//   N/W g2 / 2 + m (2 |o| + m), m = N/W g1 / 2   as a term is off by half a unit, whatever its
//                                                weight; m is what the mean is off
//   11 u o^2 + 5 u var     in the end: of either sum two roundings into double and the quotient's,
//                          W's, and those of o^2 and of the difference
//   3 u o^2 + 5 u var      in the terms: d, which is as if x were off by u |d|; w d, as if w were;
//                          and the square, where the processor cannot fuse its rounding with that
//                          to units
//
// The sums are taken again if all of that but the shares of var, with 2^-49 o^2 for 14 u o^2,
// exceeds 2^-25 (var + eps), f64 2^-47; of o^2, if another pivot is nearer to the mean. The shares
// of var, 10 u, leave f64 below 1e-14. The sums are also taken again if m exceeds that part of
// sqrt(var + eps): small weights let large differences into narrow windows.
//
// The window of a forward is 2^8 standard deviations of the history wide, so that g2 / 2 is below
// 2^-33 of the variance. That is enough for weights of 2^-8 on average; with smaller ones, and with
// larger ones that leave the window, sums are taken twice in every step.
//
// A repeat's windows are at most 4 times as wide as the largest terms. As w d^2 <= W (var + o^2),
// and so w |d| <= W sqrt(var + o^2), the units' share is below N 2^-46 (var + o^2), f64 N 2^-96,
// whatever the weights. A repeat is about the pivot K nearest to the mean that the sums before
// gave, a float, of f64 a double; if there were none, as a term was outside, or the mean was too
// far from that pivot, there is a second repeat. So
//
//   |var's error| <= 2^-25 (var + eps)                         f32, f16, bf16
//   |var's error| <= 1e-14 (var + eps) + 2^-49 (mean - K)^2    f64
//
// or with outliers N 2^-46 var for the first term; the mean is off by as much of sqrt(var + eps),
// and by what double rounds, 2^-50 (|mean| + sqrt(var)). Values of the narrower types are floats,
// so |mean - K| is no larger than their standard deviation; of f64 it is 2^-53 |mean|. When a mean
// jumps by J from the pivot of earlier steps, K is off by (N 2^-49 + 2^-50) J besides (f64: 2^-50
// J), in that step only: too much where J exceeds 2^59 N^-3/2 standard deviations (f64: 2^51),
// unless the mean is below 2^-48 J: then K is 0. Nothing is held below 2^-1074, nor are weighted
// squares of 2^1020 or more, which count as infinite.

#include <cstdint>
#include <span>

#include "bn/exact_pass.hpp"

namespace syncbn::bn {

/// Sums of x, into working.sums.
class ExactForward : public ExactPass {
 public:
  ExactForward(comm::Group& group, comm::Descriptor what, Workspace& working, Backend backend,
               const ConstTensorView& x, Weight weight, std::span<double> pivot, double eps)
      : ExactPass(group, what, working, backend), x_(x), weight_(weight), pivot_(pivot), eps_(eps) {
    exact_.backward = false;
  }

  /// For standard deviations about the pivot like these; negative where there are none.
  void choose_windows(std::span<const double> var);
  void sum(const ChannelRange& channels);
  /// Whether the group's sums are good enough.
  bool is_settled(const ChannelRange& channels) const;
  /// Collective. Takes the group's sums again where they are not.
  void settle(const ChannelRange& channels);

 private:
  kernels::ForwardSums arguments(const ChannelRange& channels) const;
  bool needs_another(std::size_t c, bool is_last) const;

  const ConstTensorView& x_;
  Weight weight_;
  std::span<double> pivot_;
  double eps_;
};

/// Sums of dz, into working.sums; this rank's own into working.own_sums.
class ExactBackward : public ExactPass {
 public:
  ExactBackward(comm::Group& group, comm::Descriptor what, Workspace& working, Backend backend,
                const BackwardContext& context)
      : ExactPass(group, what, working, backend), context_(context) {
    exact_.backward = true;
  }

  void choose_windows();
  void sum(const ChannelRange& channels);
  /// As in a forward.
  bool is_settled(const ChannelRange& channels) const;
  void settle(const ChannelRange& channels);
  /// The next backward's windows are of these.
  void remember_exponents(const ChannelRange& channels);

 private:
  bool needs_another(std::size_t c) const;
  /// Calls run(kernels, arguments) for all channels, in parts as in_range_of.
  template <class Run>
  void in_parts(const ChannelRange& channels, Run run);
  void take_own(const ChannelRange& channels);

  const BackwardContext& context_;
};

}  // namespace syncbn::bn
