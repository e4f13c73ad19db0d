// SPDX-License-Identifier: Apache-2.0
#include "app/scale/groups.hpp"

#include <algorithm>
#include <cstddef>

#include "app/last_resort.hpp"

namespace syncbn::app::scale {
namespace {

/// A Host's ranks, ascending.
using Host = std::vector<int>;

std::vector<int> packed(const std::vector<Host>& hosts, std::size_t size) {
  std::vector<int> members;
  for (const Host& host : hosts) {
    members.insert(members.end(), host.begin(), host.end());
  }
  members.resize(size);
  std::ranges::sort(members);
  return members;
}

std::vector<int> spread(const std::vector<Host>& hosts, std::size_t size) {
  std::vector<int> members;
  for (std::size_t place = 0; members.size() < size; ++place) {
    for (const Host& host : hosts) {
      if (place < host.size() && members.size() < size) {
        members.push_back(host[place]);
      }
    }
  }
  std::ranges::sort(members);
  return members;
}

/// Returns how many members each host has, the most first, without hosts that have none.
std::vector<int> on_each_host(const std::vector<Host>& hosts, const std::vector<int>& members) {
  std::vector<int> counts;
  for (const Host& host : hosts) {
    const auto count = std::ranges::count_if(
        host, [&](int rank) { return std::ranges::binary_search(members, rank); });
    if (count > 0) {
      counts.push_back(static_cast<int>(count));
    }
  }
  std::ranges::sort(counts, std::ranges::greater());
  return counts;
}

GroupPlan plan_of(const std::vector<Host>& hosts, std::vector<int> members, Placement placement) {
  const std::vector<int> counts = on_each_host(hosts, members);
  return {std::move(members), placement, static_cast<int>(counts.size()), counts.front()};
}

}  // namespace

std::vector<GroupPlan> plan_groups(const std::map<std::string, std::vector<int>>& by_name,
                                   const std::vector<int>& sizes) {
  std::vector<Host> hosts;
  for (const auto& [name, ranks] : by_name) {
    hosts.push_back(ranks);
  }
  std::ranges::sort(hosts, {}, [](const Host& host) { return host.front(); });
  std::vector<GroupPlan> plans;
  for (const int size : sizes) {
    const auto count = static_cast<std::size_t>(size);
    const std::vector<int> filled = packed(hosts, count);
    const std::vector<int> scattered = spread(hosts, count);
    plans.push_back(plan_of(hosts, filled, Placement::packed));
    if (on_each_host(hosts, filled) != on_each_host(hosts, scattered)) {
      plans.push_back(plan_of(hosts, scattered, Placement::spread));
    }
  }
  return plans;
}

Json to_json(const GroupPlan& plan) {
  return {{"ranks", plan.members.size()},
          {"hosts", plan.hosts},
          {"most_on_a_host", plan.most_on_a_host},
          {"placement", plan.placement == Placement::packed ? "packed" : "spread"},
          {"members", plan.members}};
}

std::vector<Group> make_groups(const World& world, const std::vector<GroupPlan>& plans,
                               const Deadlines& deadlines) {
  const LastResort last_resort(
      deadlines.fail,
      "syncbn scale: MPI's communicators of fewer ranks were not made in time (is a "
      "rank stuck?). Give --timeout more, if ranks take so long.\n");
  std::vector<Group> groups;
  for (const GroupPlan& plan : plans) {
    Group group;
    group.plan = plan;
    group.member = std::ranges::binary_search(plan.members, world.communicator.rank());
    const int color = group.member ? 0 : 1;
    group.ranks = std::make_shared<Communicator>(world.communicator.split(color));
    if (world.plain_mpi) {
      group.mpi = world.plain_mpi(color);
    }
    if (group.member) {
      group.clock = std::make_shared<CommonClock>(*group.ranks);
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

double largest_uncertainty(const Communicator& world, const std::vector<Group>& groups) {
  Nanoseconds largest = 0;
  for (const Group& group : groups) {
    if (group.member) {
      largest = std::max(largest, group.clock->uncertainty());
    }
  }
  return 1e-9 *
         std::ranges::max(world.all_gather(std::vector<double>{static_cast<double>(largest)}));
}

}  // namespace syncbn::app::scale
