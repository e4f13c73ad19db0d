// SPDX-License-Identifier: Apache-2.0
#pragma once

// An ExactPass takes exact sums: the same bits however the batch lies on the ranks.
//
// Both sums of a channel are integers in units of a window, which is a power of 2 that bounds the
// terms (kernels/fixed_point.hpp). All ranks choose windows alike, from what they know of earlier
// steps. On the wire an integer of up to 2^84 is two doubles, its high and its low half. Doubles
// add integers below 2^53 exactly in any order: this holds for up to 2^20 ranks and 2^34 elements
// per channel, whatever the elements are.
//
//   message   first high, first low, second high, second low     4C doubles; f64: as much again, in
//                                                                finer units
//             backward: largest |dz|                             C
//             count, number of terms, a wish                     12
//
// A rank with a term outside of its window sends a NaN in place of the first sum's high half. The
// channel's sums are then taken again, and also where the reduced sums show that a window was far
// too wide. The new windows follow from the largest terms, whose exponents two further messages
// find:
//
//   message   coarse exponents of both, their infinities and NaNs      4C
//   message   fine exponents of both                                   2C
//   message   sums as above
//
// An all-reduce that only adds finds the largest of the ranks' exponents e like this: each rank
// adds B^e with B = 2^20. The sum, whatever its rounding, lies in [B^max, P B^max], so its exponent
// tells max for P < 2^19 ranks. Infinities and NaNs add up to what IEEE 754 makes of them, in any
// order, and become the sums.

#include <vector>

#include "bn/exact_workspace.hpp"
#include "bn/workspace.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {

/// An ExactPass takes the exact sums of a pass, and writes and reads their message.
class ExactPass {
 public:
  /// working.exact holds this rank's count.
  ExactPass(comm::Group& group, comm::Descriptor what, Workspace& working, Backend backend)
      : group_(group), what_(what), working_(working), exact_(*working.exact), backend_(backend) {
    what_.operation = comm::Operation::second_sums;
    exact_.fine = what.dtype == DType::f64;
  }

  // Pass calls these; pass.hpp says what they do.
  void pack(const ChannelRange& channels, double wish, std::vector<double>& message) const;
  double unpack(const ChannelRange& channels, const std::vector<double>& message);
  void keep(const ChannelRange& channels);

 protected:
  /// Returns the arrays in which kernels find windows and leave integers.
  kernels::FixedPoint fixed_point();
  kernels::Magnitudes magnitudes();
  /// Returns whether any of these channels has a window; if not, the sums are not worth taking.
  bool any_known(const ChannelRange& channels) const;
  /// Marks channels without a window as having a term outside of it.
  void mark_unknown(const ChannelRange& channels);
  /// Collective. Finds the group's largest terms of channels to be taken again, from each rank's
  /// magnitudes: writes their exponents to first_exponent and second_exponent, and the sums of
  /// infinities and NaNs to first_special and second_special.
  void find_exponents(const ChannelRange& channels);
  /// Collective. Adds up the ranks' integers, and writes working.sums.
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
