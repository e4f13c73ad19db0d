// SPDX-License-Identifier: Apache-2.0
//
// A message from one host to another and back, by MPI, halved: what the network takes, without any
// exchange of ours.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <span>
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

/// Takes messages of one length to the other rank of a pair and back.
class Pings {
 public:
  Pings(PlainMpi& mpi, int rank, const Pair& pair) : mpi_(mpi), rank_(rank), pair_(pair) {}

  /// Collective over the pair. Returns times of a message one way, as many as fit into `seconds`,
  /// but `fewest` to `most`. Those of `pair.first` count; the other rank's begin with a wait.
  std::vector<double> one_way_times(std::size_t bytes, std::size_t fewest, std::size_t most,
                                    double seconds) {
    std::vector<std::byte> message(bytes);
    double longest = 0;
    for (int i = 0; i < 5; ++i) {
      longest = std::max(longest, one_way_time(message));  // to warm up
    }
    const double fit = longest > 0 ? seconds / (2 * longest) : 0;
    const std::size_t count = agree(std::clamp(static_cast<std::size_t>(fit), fewest, most));
    std::vector<double> times;
    for (std::size_t i = 0; i < count; ++i) {
      times.push_back(one_way_time(message));
    }
    return times;
  }

 private:
  double one_way_time(std::span<std::byte> message) {
    const Clock::time_point begin = Clock::now();
    if (rank_ == pair_.first) {
      mpi_.ping(pair_.second, message);
    } else {
      mpi_.return_ping(pair_.first, message);
    }
    return std::chrono::duration<double>(Clock::now() - begin).count() / 2;
  }

  /// Returns `pair.first`'s number on both ranks.
  std::size_t agree(std::size_t number) {
    std::vector<std::byte> message(sizeof number);
    std::memcpy(message.data(), &number, sizeof number);
    one_way_time(message);
    std::memcpy(&number, message.data(), sizeof number);
    return number;
  }

  PlainMpi& mpi_;
  int rank_;
  Pair pair_;
};

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
