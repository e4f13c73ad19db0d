// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "syncbn/communicator.hpp"

#include "app/check/cases.hpp"
#include "app/check/findings.hpp"
#include "app/check/layer.hpp"

namespace syncbn::app::check {

/// A hash of what must have the same bits on every rank.
class SharedBits {
 public:
  void add(std::span<const double> values);
  /// Collective. Whether all ranks have added the same.
  bool same_on_all(const Communicator& world) const;

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

/// Collective. Trains a layer on the case's batches for two steps, this rank on its shard of them,
/// and compares with what one process with the whole batch gets.
void run_case(const LayerMaker& make, const Case& one, std::size_t index, std::uint64_t seed,
              const Communicator& world, Findings& findings, SharedBits& bits);

/// How far the ranks' results have the bits of one process that holds the whole batch.
struct BitComparison {
  double compared = 0;   ///< numbers, over all ranks
  double different = 0;  ///< of these
  double cases_different = 0;
  double case_index = -1;  ///< of the first case with a difference

  void add(std::size_t index, double compared_values, double different_values);
};

/// Collective. Trains as run_case does, with the case's shards and each of the other shardings, and
/// compares with the same layer in this process alone.
void compare_bits(const LayerMaker& make, const Case& one, std::size_t index, std::uint64_t seed,
                  const Communicator& world, BitComparison& comparison);

/// Collective. The negative control: y of batch norm over each rank's own shard, compared likewise,
/// the worst over the ranks. What can tell synchronized from local must find it wrong.
Worst run_local(const LayerMaker& make, const Case& one, std::uint64_t seed,
                const Communicator& world);

}  // namespace syncbn::app::check
