// SPDX-License-Identifier: Apache-2.0
#pragma once

// ExactForward and ExactBackward take sums that are the same bits however the batch lies on the
// ranks.
//
// Both sums of a channel are integers in units of a window, which bounds the terms
// (kernels/fixed_point.hpp). All ranks choose windows alike, from what they know of earlier steps;
// exact_pass.hpp says how the integers travel. The sums are taken again, in windows of the largest
// terms, where a term was outside of its window, and where the reduced sums show that a window was
// far too wide: at most twice in a forward and once in a backward.
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

#include <cstdint>
#include <span>

#include "bn/exact_pass.hpp"

namespace syncbn::bn {

/// An ExactForward takes the sums of w (x - K) and w (x - K)^2 into working.sums.
class ExactForward : public ExactPass {
 public:
  ExactForward(comm::Group& group, comm::Descriptor what, Workspace& working, Backend backend,
               const ConstTensorView& x, Weight weight, std::span<double> pivot, double eps)
      : ExactPass(group, what, working, backend), x_(x), weight_(weight), pivot_(pivot), eps_(eps) {
    exact_.backward = false;
  }

  /// Chooses windows for variances about the pivot like these, [C]; a negative one is not known.
  void choose_windows(std::span<const double> var);
  void sum(const ChannelRange& channels);
  /// Returns whether the group's sums are good enough.
  bool is_settled(const ChannelRange& channels) const;
  /// Collective. Takes the group's sums again where they are not good enough, at most twice.
  void settle(const ChannelRange& channels);

 private:
  kernels::ForwardSums arguments(const ChannelRange& channels) const;
  bool needs_another(std::size_t c, bool is_last) const;

  const ConstTensorView& x_;
  Weight weight_;
  std::span<double> pivot_;
  double eps_;
};

/// An ExactBackward takes the sums of dz and dz (x - mean) into working.sums, and this rank's own
/// into working.own_sums.
class ExactBackward : public ExactPass {
 public:
  ExactBackward(comm::Group& group, comm::Descriptor what, Workspace& working, Backend backend,
                const BackwardContext& context)
      : ExactPass(group, what, working, backend), context_(context) {
    exact_.backward = true;
  }

  void choose_windows();
  void sum(const ChannelRange& channels);
  /// Returns whether the group's sums are good enough.
  bool is_settled(const ChannelRange& channels) const;
  /// Collective. Takes the group's sums again, once, where they are not good enough.
  void settle(const ChannelRange& channels);
  /// Keeps the exponents of the largest |dz|, which the next backward's windows follow from.
  void remember_exponents(const ChannelRange& channels);

 private:
  bool needs_another(std::size_t c) const;
  /// Calls run(kernels, arguments) for the channels, in parts as in_range_of does.
  template <class Run>
  void in_parts(const ChannelRange& channels, Run run);
  void take_own(const ChannelRange& channels);

  const BackwardContext& context_;
};

}  // namespace syncbn::bn
