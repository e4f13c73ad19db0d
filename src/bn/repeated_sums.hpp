// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "bn/passes.hpp"
#include "comm/group.hpp"

namespace syncbn::bn {

/// Collective. Takes a forward's sums of a block of channels again, in place of those in
/// working.sums, while a pivot turns out to be far from the mean or squares left float's range
/// (pivots.hpp); moves those pivots. The others stay, and with them the bits of their sums. `what`
/// is the forward's. Returns whether it did so at all.
bool repeat_sums(comm::Group& group, const comm::Descriptor& what, const ConstTensorView& x,
                 Weight weight, const ChannelRange& channels, std::span<double> pivot, double eps,
                 Backend backend, Workspace& working);

}  // namespace syncbn::bn
