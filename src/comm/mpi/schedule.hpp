// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace syncbn::comm::mpi {

/// What a leader does in a step.
enum class Act : std::uint8_t {
  give,          ///< sends its values
  take_and_add,  ///< receives values, and adds them to its own
  trade,         ///< sends, receives, and adds all in the order of ranks
  take_sum,      ///< receives the sum
};

struct Step {
  Act act;
  std::vector<int> partners;  ///< ascending; one, in a trade up to two

  bool sends() const { return act == Act::give || act == Act::trade; }
  bool receives() const { return act != Act::give; }
};

/// The steps of leader `rank` of `size` to a sum over all, the same bits on each: recursive
/// multiplying (Ruefenacht, Bull & Booth, Parallel Computing 69, 2017). Where their number is
/// 2^a 3^b, they trade by twos in a steps and by threes in b, after which every one has the sum. Of
/// another number, those beyond the last such give theirs to one below before, and get the sum
/// after.
std::vector<Step> schedule(int rank, int size);

}  // namespace syncbn::comm::mpi
