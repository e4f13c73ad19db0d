// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "app/command.hpp"
#include "app/plain_mpi.hpp"
#include "app/scale/common_clock.hpp"
#include "app/scale/distribution.hpp"

namespace syncbn::app::scale {

/// Placement says which of the ranks a smaller group takes.
enum class Placement : std::uint8_t {
  packed,  ///< all ranks of the first host, then of the next
  spread,  ///< one rank of each host in turn
};

/// A GroupPlan says which ranks measure together.
struct GroupPlan {
  std::vector<int> members;  ///< ranks of the world, ascending
  Placement placement = Placement::packed;
  int hosts = 1;
  int most_on_a_host = 1;
};

/// Returns a group for each number of ranks and each placement, but one group only where both
/// placements take the same number of ranks of each host. `hosts` are the ranks by host's name.
std::vector<GroupPlan> plan_groups(const std::map<std::string, std::vector<int>>& hosts,
                                   const std::vector<int>& sizes);

Json to_json(const GroupPlan& plan);

/// A Group is the ranks of a plan with what they measure with.
struct Group {
  GroupPlan plan;
  bool member = false;                  ///< this rank is one of them
  std::shared_ptr<Communicator> ranks;  ///< of the group; of the others, where this rank is not one
  std::shared_ptr<PlainMpi> mpi;        ///< likewise; null in a build without MPI
  std::shared_ptr<CommonClock> clock;   ///< null where this rank is no member
};

/// Collective over the world. Makes the groups. The process ends if that is not done in time.
std::vector<Group> make_groups(const World& world, const std::vector<GroupPlan>& plans,
                               const Deadlines& deadlines);

/// Collective over the world. Returns how far a rank's clock may be from that of its group's rank
/// 0, at most. [s]
double largest_uncertainty(const Communicator& world, const std::vector<Group>& groups);

}  // namespace syncbn::app::scale
