// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "trainer/report.hpp"
#include "trainer/stopwatch.hpp"

namespace syncbn::app {

/// What a user sees of a training run: a bar on stderr while it is a terminal, and a line on stdout
/// for each epoch.
class TrainProgress {
 public:
  /// `first_step` is the number of steps done before this run.
  TrainProgress(std::int64_t first_step, std::int64_t steps_per_epoch);
  /// Ends the bar's line, for what is said next: when training fails, the reason.
  ~TrainProgress();
  TrainProgress(const TrainProgress&) = delete;
  TrainProgress& operator=(const TrainProgress&) = delete;

  void show(const trainer::StepReport& report);

 private:
  void draw_bar(const trainer::StepReport& report);
  void print_epoch(const trainer::StepReport& report);

  std::int64_t first_step_;
  std::int64_t steps_per_epoch_;
  bool on_terminal_;
  bool bar_is_shown_ = false;
  trainer::Stopwatch watch_;
  double drawn_at_ = -1;  ///< [s] of watch_

  // Of the epoch so far.
  double loss_sum_ = 0;
  double seconds_ = 0;
  std::int64_t images_ = 0;
};

/// The end of a run: accuracy, speed, and where the time of a step went.
std::string summary(const trainer::RunReport& run);

}  // namespace syncbn::app
