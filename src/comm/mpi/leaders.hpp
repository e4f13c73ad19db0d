// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

#include "comm/mpi/members.hpp"
#include "comm/node/exchange.hpp"

namespace syncbn::comm::mpi {

/// The ranks that share memory, or several such of a host, for tests.
struct Node {
  std::vector<int> ranks;  ///< as numbered in the group, ascending; the first is the leader
  std::string host;        ///< its name, for messages
};

/// Collective over `leaders`, one rank of each node. Sums in the steps of schedule.hpp; all sides
/// of a trade add in the order of ranks, so all end with the same bits. Every message carries the
/// fingerprint; what does not agree is not added, and a mark of it travels on, so that all leaders
/// know when the steps are through.
///
/// `nodes` are the leaders', in their order.
std::unique_ptr<node::Network> network(Members leaders, std::vector<Node> nodes,
                                       Deadlines deadlines);

}  // namespace syncbn::comm::mpi
