// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "syncbn/communicator.hpp"

#include "app/check/cases.hpp"
#include "app/check/findings.hpp"
#include "app/check/layer.hpp"

namespace syncbn::app::check {

/// SharedBits is a hash of values that must have the same bits on every rank.
class SharedBits {
 public:
  void add(std::span<const double> values);
  /// Collective. Returns whether all ranks have added the same.
  bool same_on_all(const Communicator& world) const;

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

/// Collective. Trains a layer on the case's batches for steps_of(one), this rank on its shard of
/// them, and compares with what one process with the whole batch gets.
void run_case(const LayerMaker& make, const Case& one, std::size_t index, std::uint64_t seed,
              const Communicator& world, Findings& findings, SharedBits& bits);

/// A BitComparison counts where the ranks' results differ from the bits of one process that holds
/// the whole batch.
struct BitComparison {
  double compared = 0;   ///< numbers compared, over all ranks
  double different = 0;  ///< numbers that differ
  double cases_different = 0;
  double case_index = -1;  ///< index of the first case with a difference; -1: none

  void add(std::size_t index, double compared_values, double different_values);
};

/// Collective. Trains as run_case does, with the case's shards and each of the other shardings, and
/// compares with the same layer in this process alone, which is not replayed.
void compare_bits(const LayerMaker& make, const Case& one, std::size_t index, std::uint64_t seed,
                  const Communicator& world, BitComparison& comparison);

/// Collective. Runs the negative control: batch norm over each rank's own shard alone, whose y is
/// compared as in run_case. Returns the worst over the ranks. A check that can tell synchronized
/// from local batch norm must find it wrong.
Worst run_local(const LayerMaker& make, const Case& one, std::uint64_t seed,
                const Communicator& world);

}  // namespace syncbn::app::check
