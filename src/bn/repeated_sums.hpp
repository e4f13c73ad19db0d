// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "bn/passes.hpp"
#include "comm/group.hpp"

namespace syncbn::bn {

/// Whether a forward's sums of a block of channels are to be taken again, as a pivot turns out to
/// be far from the mean or squares left float's range (pivots.hpp). The same on every rank.
bool must_repeat_sums(DType dtype, const ChannelRange& channels, std::span<const double> pivot,
                      double eps, const Workspace& working);

/// Collective. Takes them again, in place of those in working.sums, while that is so; moves far
/// pivots. The others stay, and with them the bits of their sums. `what` is the forward's.
void repeat_sums(comm::Group& group, const comm::Descriptor& what, const ConstTensorView& x,
                 Weight weight, const ChannelRange& channels, std::span<double> pivot, double eps,
                 Backend backend, Workspace& working);

}  // namespace syncbn::bn
