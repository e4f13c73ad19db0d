// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "bn/workspace.hpp"
#include "comm/descriptor.hpp"
#include "comm/group.hpp"

namespace syncbn::bn {

// The message of sums of doubles, 2C + 2 of them for C channels: both sums of each, this rank's
// count, and a wish of the rank's.

void pack_plain(const ChannelRange& channels, double wish, const Workspace& working,
                std::vector<double>& message);
/// Takes the group's back into working.sums. Returns the sum of the wishes.
double unpack_plain(const ChannelRange& channels, const std::vector<double>& message,
                    Workspace& working);

/// Collective. Sums what the sums of these channels are now, taken again, in a message of their
/// own, and waits for it.
void exchange_again(comm::Group& group, const comm::Descriptor& what, const ChannelRange& channels,
                    Workspace& working);

}  // namespace syncbn::bn
