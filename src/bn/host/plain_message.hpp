// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "bn/host/workspace.hpp"
#include "comm/group/descriptor.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {

// A plain message has 2C + 1 doubles for C channels: both sums of each, and this rank's count.

void pack_plain(const ChannelRange& channels, const Workspace& working,
                std::vector<double>& message);
/// Copies the summed message back into working.sums.
void unpack_plain(const ChannelRange& channels, const std::vector<double>& message,
                  Workspace& working);

/// Collective. Exchanges the sums of these channels once more, in a message of their own, and waits
/// for it.
void exchange_again(comm::Group& group, const comm::Descriptor& what, const ChannelRange& channels,
                    Workspace& working);

}  // namespace syncbn::bn
