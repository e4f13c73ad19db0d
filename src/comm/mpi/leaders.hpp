// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "syncbn/communicator.hpp"

#include "comm/mpi/handles.hpp"
#include "comm/node/exchange.hpp"

namespace syncbn::comm::mpi {

/// Collective over `leaders`, one rank of each node. Sums by recursive doubling: in step k each
/// leader trades what it has with the one whose rank differs in bit k, log2 of their number steps.
/// Leaders beyond the last power of two give theirs to one below before, and get the sum after.
///
/// Both sides of a trade add the lower rank's values first, so all end with the same bits. Every
/// message carries the fingerprint; what does not agree is not added, and a mark of it travels on,
/// so that all leaders know when the steps are through.
///
/// `ranks` are those of this node, as numbered in the group.
std::unique_ptr<node::Network> network(OwnedComm leaders, const std::vector<int>& ranks,
                                       Deadlines deadlines);

}  // namespace syncbn::comm::mpi
