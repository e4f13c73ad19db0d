// SPDX-License-Identifier: Apache-2.0
//
// A message from one host to another and back, by MPI, halved: what the network takes, without any
// exchange of ours.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "app/last_resort.hpp"
#include "app/scale/cells.hpp"

namespace syncbn::app::scale {
namespace {

using Clock = std::chrono::steady_clock;
using Pair = std::pair<int, int>;  // ranks of the world

constexpr std::size_t sizes[] = {8, 64, 512, 1024, 4096, 8192, 16384, 32768, 65536};  // [B]
constexpr std::size_t most_pairs = 16;

/// Returns pairs of hosts' first ranks: each host with the next one, round and round.
std::vector<Pair> pairs_of_hosts(const std::map<std::string, std::vector<int>>& hosts) {
  std::vector<int> first;
  for (const auto& [name, ranks] : hosts) {
    first.push_back(ranks.front());
  }
  std::ranges::sort(first);
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < first.size() && pairs.size() < most_pairs; ++i) {
    const int next = first[(i + 1) % first.size()];
    if (first[i] < next || first.size() > 2) {
      pairs.emplace_back(std::min(first[i], next), std::max(first[i], next));
    }
  }
  return first.size() > 1 ? pairs : std::vector<Pair>();
}

/// Returns one-way times, as `pair.first` measures them. The other rank answers, and returns none.
std::vector<double> one_way_times(PlainMpi& mpi, int rank, const Pair& pair, std::size_t bytes,
                                  std::size_t repetitions) {
  constexpr std::size_t warm_up = 5;
  std::vector<std::byte> message(bytes);
  std::vector<double> times;
  for (std::size_t i = 0; i < warm_up + repetitions; ++i) {
    if (rank == pair.second) {
      mpi.return_ping(pair.first, message);
      continue;
    }
    const Clock::time_point begin = Clock::now();
    mpi.ping(pair.second, message);
    if (i >= warm_up) {
      times.push_back(std::chrono::duration<double>(Clock::now() - begin).count() / 2);
    }
  }
  return times;
}

Found measure(const Plan& plan, const StoppingRule& rule, int rank, PlainMpi& mpi, const Pair& pair,
              Deadlines deadlines) {
  Found found;
  found.at = pair.first;
  if (rank != pair.first && rank != pair.second) {
    return found;
  }
  const LastResort last_resort(
      deadlines.fail,
      fmt::format("syncbn scale: messages between ranks {} and {} did not come back in time (is "
                  "one stuck?). Give --timeout more, if they take so long.\n",
                  pair.first, pair.second));
  const std::size_t repetitions = plan.budget == Budget::quick ? 200 : 2000;
  for (const std::size_t bytes : sizes) {
    const std::vector<double> times = one_way_times(mpi, rank, pair, bytes, repetitions);
    if (rank == pair.first) {
      found.entries.push_back({{"kind", "ping"},
                               {"enough", median(times).relative_half_width() <= rule.wanted},
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
