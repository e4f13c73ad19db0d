// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "bn/host/phases.hpp"
#include "bn/host/workspace.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {

/// Returns whether a forward's sums of these channels are to be taken again, because a pivot turns
/// out to be far from the mean or squares left float's range (channels/pivot.hpp). The answer is
/// the same on every rank.
bool must_repeat_sums(DType dtype, const ChannelRange& channels, std::span<const double> pivot,
                      double eps, const Workspace& working);

/// Collective. Takes the sums in working.sums again until none needs it, `most_repeats` times at
/// most, with an exchange each time. It moves the pivots that are far; the others stay, and with
/// them the bits of their sums. `what` is the forward's.
void repeat_sums(comm::Group& group, const comm::Descriptor& what, const ConstTensorView& x,
                 PositionWeights position_weights, const ChannelRange& channels,
                 std::span<double> pivot, double eps, Backend backend, Workspace& working);

}  // namespace syncbn::bn
