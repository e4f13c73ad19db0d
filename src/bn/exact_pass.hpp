// SPDX-License-Identifier: Apache-2.0
#pragma once

// The messages of exact sums.
//
// Both sums of a channel are integers in units of a window (kernels/fixed_point.hpp), which all
// ranks choose alike from what they know of earlier steps. On the wire an integer of up to 2^84 is
// two doubles, high and low half, and doubles add integers below 2^53 exactly in any order: for up
// to 2^20 ranks and 2^34 elements per channel, whatever they hold.
//
//   message   first high, first low, second high, second low     4C doubles; f64: as much again, in
//                                                                finer units
//             backward: largest |dz|                             C
//             count, number of terms, a wish                     12
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

#include <vector>

#include "bn/exact_workspace.hpp"
#include "bn/workspace.hpp"
#include "comm/group.hpp"

namespace syncbn::bn {

/// An ExactPass takes the exact sums of a pass, and writes and reads their message.
class ExactPass {
 public:
  /// The workspace's `exact` holds the count.
  ExactPass(comm::Group& group, comm::Descriptor what, Workspace& working, Backend backend)
      : group_(group), what_(what), working_(working), exact_(*working.exact), backend_(backend) {
    what_.pass = comm::Pass::second_sums;
    exact_.fine = what.dtype == DType::f64;
  }

  // Pass calls these; pass.hpp says what they do.
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
  /// Collective. The exponents of the largest terms of channels to be taken again, from each rank's
  /// magnitudes: into first_exponent and second_exponent. Fills the specials, too.
  void find_exponents(const ChannelRange& channels);
  /// Collective. The sums of all ranks.
  void exchange(const ChannelRange& channels);

  comm::Group& group_;
  comm::Descriptor what_;
  Workspace& working_;
  ExactWorkspace& exact_;
  Backend backend_;
  std::vector<double>& message_ = working_.repeated;

 private:
  void exchange_message();
};

}  // namespace syncbn::bn
