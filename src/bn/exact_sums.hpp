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
// Accuracy. A term inside its window of 2^w is off by at most 2^(w-51), f64 2^(w-101); products are
// rounded once, to the unit, where the processor can fuse them. With g the unit, o = mean - K:
//
//   |var's error| <= g2 / 2 + |o| g1 + 2^-52 o^2        (o^2 where d^2 is rounded before; f64: d
//   too)
//
// The window of a forward is 2^8 standard deviations of the history wide, 2^-35 of the variance in
// its units. The sums are taken again if the bound exceeds 2^-25 (var + eps), f64 1e-14.
// A repeat's windows are at most 4 times as wide as the largest term, m: as var >= about m^2 / n,
// the bound is then below n 2^-46 var (f64 n 2^-96), whatever the data; at 2^22 elements 2^-24.

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
  /// Collective. Takes the group's sums again where they are not good enough. Returns whether any.
  bool settle(const ChannelRange& channels);

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
  void settle(const ChannelRange& channels);

 private:
  void take_own(const ChannelRange& channels);

  const BackwardContext& context_;
};

}  // namespace syncbn::bn
