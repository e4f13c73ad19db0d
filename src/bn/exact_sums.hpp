// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sums of a pass that are the same bits however the batch lies on the ranks.
//
// Both sums of a channel are integers in units of a window (kernels/fixed_point.hpp), which all
// ranks choose alike from what they know of earlier steps. On the wire an integer of up to 2^84 is
// two doubles, high and low half, and doubles add integers below 2^53 exactly in any order: for up
// to 2^20 ranks and 2^34 elements per channel, whatever they hold.
//
//   message   first high, first low, second high, second low     4C doubles; f64: as much again, in
//                                                                finer units
//             backward: largest |dz|                             C
//             count, a wish                                      11
//
// A rank with a term outside of its window sends a NaN in place of the first sum. Then, and where
// the reduced sums show that a window was far too wide, the channel's sums are taken once more: in
// windows of the largest terms, of which two further messages find the exponents:
//
//   message   coarse exponents of both, their infinities and NaNs      4C
//   message   fine exponents of both                                   2C
//   message   sums as above
//
// A largest exponent from an all-reduce that only adds: each rank adds B^e with B = 2^20; the sum,
// whatever its rounding, lies in [B^max, P B^max], so its exponent tells max for P < 2^19 ranks.
// Infinities and NaNs add up to what IEEE 754 makes of them, in any order, and become the sums.
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
#include <vector>

#include "bn/exact_workspace.hpp"
#include "bn/passes.hpp"
#include "comm/group.hpp"

namespace syncbn::bn {

/// Sum of the weights, without rounding.
CountLimbs count_exactly(const ConstTensorView& x, Weight weight);
double to_count(const CountLimbs& limbs);

/// A pass in progress.
class ExactPass {
 public:
  /// The workspace's `exact` holds the count.
  ExactPass(comm::Group& group, comm::Descriptor what, Workspace& working, Backend backend)
      : group_(group), what_(what), working_(working), exact_(*working.exact), backend_(backend) {
    what_.pass = comm::Pass::second_sums;
    exact_.fine = what.dtype == DType::f64;
  }

  // Called by in_blocks.
  void pack(const ChannelRange& channels, double wish, std::vector<double>& message) const;
  double unpack(const ChannelRange& channels, const std::vector<double>& message);
  void keep(const ChannelRange& channels);

 protected:
  /// The units' places in memory.
  kernels::FixedPoint fixed_point();
  kernels::Magnitudes magnitudes();
  /// Whether any channel has a window: else the sums are not worth taking.
  bool any_known(const ChannelRange& channels) const;
  /// Channels without one are outside of it.
  void mark_unknown(const ChannelRange& channels);
  /// Collective. Windows from the largest terms, for channels to be taken again.
  void fit_windows(const ChannelRange& channels);
  /// Collective. The sums of all ranks.
  void exchange(const ChannelRange& channels);

  comm::Group& group_;
  comm::Descriptor what_;
  Workspace& working_;
  ExactWorkspace& exact_;
  Backend backend_;
  std::vector<double>& message_ = working_.messages[2];

 private:
  void exchange_message();
  /// From each rank's magnitudes. Fills first_exponent and second_exponent, and the specials.
  void find_exponents(const ChannelRange& channels);
};

/// Sums of x, into working.sums.
class ExactForward : public ExactPass {
 public:
  ExactForward(comm::Group& group, comm::Descriptor what, Workspace& working, Backend backend,
               const ConstTensorView& x, Weight weight, std::span<float> pivot, double eps)
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
  std::span<float> pivot_;
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
