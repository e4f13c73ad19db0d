// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syncbn/communicator.hpp"
#include "syncbn/state.hpp"

#include "trainer/trained.hpp"

namespace syncbn::trainer {

/// Keeps a run's state in memory, after the last step that this rank has done and after the one
/// before. When an exchange fails, another rank may not have come as far, but no more than a step
/// less, since a step takes all ranks. Costs a copy of the state a step.
class Snapshots {
 public:
  /// Keeps the state after `steps_done` steps.
  void keep(const Trained& trained, std::int64_t steps_done);

  /// Collective, over those that have kept. Sets `trained` to what it was after the last step that
  /// all of them have done, everywhere with the values of the lowest rank, to the bit; only running
  /// statistics per rank stay each rank's own. Returns that step, which is then the last one kept.
  /// If it throws CommError, `trained` is undefined and what was kept is still there.
  std::int64_t restore(const Trained& trained, const Communicator& ranks);

 private:
  struct Snapshot {
    std::int64_t steps_done = 0;
    StateDict descent;
    StateDict layers;
  };
  const Snapshot& after(std::int64_t steps_done) const;

  Snapshot last_;
  Snapshot one_before_;
};

}  // namespace syncbn::trainer
