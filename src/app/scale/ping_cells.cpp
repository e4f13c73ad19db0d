// SPDX-License-Identifier: Apache-2.0
//
// A message from one host to another and back, by MPI, halved: what the network takes, without any
// exchange of ours.
#include <chrono>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <memory>

#include <fmt/format.h>

#include "app/last_resort.hpp"
#include "app/scale/cells.hpp"
#include "app/scale/pings.hpp"

namespace syncbn::app::scale {
namespace {

constexpr std::size_t sizes[] = {8, 64, 512, 1024, 4096, 8192, 16384, 32768, 65536};  // [B]
Found measure(const Plan& plan, const StoppingRule& rule, int rank, PlainMpi& mpi, const Pair& pair,
              Deadlines deadlines) {
  Found found;
  found.at = pair.first;
  if (rank != pair.first && rank != pair.second) {
    return found;
  }
  const std::size_t most = plan.budget == Budget::quick ? 200 : 2000;
  for (const std::size_t bytes : sizes) {
    const LastResort last_resort(
        deadlines.fail + std::chrono::milliseconds(std::lround(1e3 * rule.most_seconds)),
        fmt::format("syncbn scale: messages between ranks {} and {} did not come back in time (is "
                    "one stuck?). Give --timeout more, if they take so long.\n",
                    pair.first, pair.second));
    const std::vector<double> times =
        Pings(mpi, rank, pair)
            .one_way_times(bytes, rule.fewest, most, rule.most_seconds / std::size(sizes));
    if (rank == pair.first) {
      found.entries.push_back(
          {{"kind", "ping"},
           {"enough", is_enough(times.size(), median(times), rule.fewest, rule.wanted)},
           {"between", {pair.first, pair.second}},
           {"bytes", bytes},
           {"one_way", describe(times)}});
      found.samples[fmt::format("{}", bytes)] = times;
    }
  }
  return found;
}

}  // namespace

std::vector<Cell> ping_cells(const Plan& plan, const World& world,
                             const std::map<std::string, std::vector<int>>& hosts,
                             Deadlines deadlines) {
  std::vector<Cell> cells;
  const std::vector<Pair> pairs = pairs_of_hosts(hosts);
  if (pairs.empty() || !world.plain_mpi) {
    return cells;
  }
  const std::shared_ptr<PlainMpi> mpi = world.plain_mpi(0);
  for (const Pair& pair : pairs) {
    cells.push_back({Kind::ping, fmt::format("ping-{}-{}", pair.first, pair.second),
                     fmt::format("messages between ranks {} and {}", pair.first, pair.second),
                     [=, &plan, rank = world.communicator.rank()](const StoppingRule& rule) {
                       return measure(plan, rule, rank, *mpi, pair, deadlines);
                     }});
  }
  return cells;
}

}  // namespace syncbn::app::scale
