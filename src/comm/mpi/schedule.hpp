// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace syncbn::comm::mpi {

/// Says what a leader does in a step.
enum class Act : std::uint8_t {
  give,          ///< sends its values
  take_and_add,  ///< receives values, and adds them to its own
  trade,         ///< sends, receives, and adds all in the order of ranks
  take_sum,      ///< receives the sum
};

struct Step {
  Act act;
  std::vector<int> partners;  ///< ascending; one, or two in a trade by threes

  bool sends() const { return act == Act::give || act == Act::trade; }
  bool receives() const { return act != Act::give; }
};

/// Returns the steps of leader `rank` of `size` in a sum over all leaders that ends with the same
/// bits on each: recursive multiplying (Ruefenacht, Bull & Booth, Parallel Computing 69, 2017). If
/// `size` is 2^a 3^b, leaders trade by twos in a steps and by threes in b, after which each has the
/// sum. If not, let `core` be the largest such number below it: before the trades, leader core + i
/// gives its values to leader i, and after them it gets the sum from there.
std::vector<Step> schedule(int rank, int size);

}  // namespace syncbn::comm::mpi
