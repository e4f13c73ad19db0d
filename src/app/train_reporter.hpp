// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "syncbn/communicator.hpp"

#include "app/command.hpp"
#include "app/last_resort.hpp"
#include "app/train_progress.hpp"
#include "trainer/report.hpp"
#include "trainer/step_log.hpp"
#include "trainer/trainer.hpp"

namespace syncbn::app {

/// A TrainReporter shows and logs a run on rank 0. On the other ranks it shows nothing, and is
/// ready to take over when rank 0 is lost.
class TrainReporter final : public trainer::Observer {
 public:
  /// Collective. Writes no log if its path is empty.
  TrainReporter(const trainer::Trainer& trainer, std::filesystem::path log, ProgressStyle progress,
                const Communicator& ranks);

  bool leads() const { return leads_; }

  void on_step(const trainer::StepReport& report) override;

  /// Takes note of the lost ranks; the next on_recovery tells the user.
  void leave_the_lost(const Survivors& survivors);
  void on_recovery(std::int64_t steps_done, const Communicator& ranks) override;

 private:
  void continue_log(std::int64_t steps_done);

  bool leads_;
  TrainProgress progress_;
  std::filesystem::path log_file_;
  std::optional<trainer::StepLog> log_;
  std::optional<trainer::StepReport> last_;
  std::vector<int> lost_;
  std::shared_ptr<LastResort> last_resort_;
  int ranks_at_start_;
};

}  // namespace syncbn::app
