// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "syncbn/communicator.hpp"

#include "comm/mpi/handles.hpp"
#include "comm/node/exchange.hpp"

namespace syncbn::comm::mpi {

/// Collective over `leaders`, one rank of each node. Sums in the steps of schedule.hpp; all sides
/// of a trade add in the order of ranks, so all end with the same bits. Every message carries the
/// fingerprint; what does not agree is not added, and a mark of it travels on, so that all leaders
/// know when the steps are through.
///
/// `ranks` are those of this node, as numbered in the group.
std::unique_ptr<node::Network> network(OwnedComm leaders, const std::vector<int>& ranks,
                                       Deadlines deadlines);

}  // namespace syncbn::comm::mpi
