// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "app/plain_mpi.hpp"

namespace syncbn::app::scale {

/// A Pair is two ranks of the world, the lower one first.
using Pair = std::pair<int, int>;

/// Returns pairs of hosts' first ranks: each host with the next one, round and round; at most 16.
std::vector<Pair> pairs_of_hosts(const std::map<std::string, std::vector<int>>& hosts);

/// Pings takes messages of one length to the other rank of a pair and back.
class Pings {
 public:
  Pings(PlainMpi& mpi, int rank, const Pair& pair) : mpi_(mpi), rank_(rank), pair_(pair) {}

  /// Collective over the pair. Returns times of a message one way, as many as fit into `seconds`,
  /// but `fewest` to `most`. Those of `pair.first` count; the other rank's begin with a wait.
  std::vector<double> one_way_times(std::size_t bytes, std::size_t fewest, std::size_t most,
                                    double seconds);

 private:
  double one_way_time(std::span<std::byte> message);
  /// Returns `pair.first`'s number on both ranks.
  std::size_t agree(std::size_t number);

  PlainMpi& mpi_;
  int rank_;
  Pair pair_;
};

}  // namespace syncbn::app::scale
