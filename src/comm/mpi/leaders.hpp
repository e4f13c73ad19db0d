// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

#include "comm/mpi/members.hpp"
#include "comm/node/network.hpp"

namespace syncbn::comm::mpi {

/// Lists ranks that share memory. Tests make several nodes of one host.
struct Node {
  std::vector<int> ranks;  ///< as numbered in the group, ascending; the first is the leader
  std::string host;        ///< its name, for error messages
};

/// Collective over `leaders`, one rank of each node. Returns what sums over the nodes, in the steps
/// of schedule.hpp. All sides of a trade add in the order of ranks, so all end with the same bits.
/// Every message carries the fingerprint. Values whose fingerprints differ are not added; the
/// disagreement is passed on in the messages of later steps, so that all leaders know when the
/// steps are through.
///
/// `nodes` are those of the leaders, in the leaders' order.
std::unique_ptr<node::Network> network(Members leaders, std::vector<Node> nodes,
                                       Deadlines deadlines);

}  // namespace syncbn::comm::mpi
