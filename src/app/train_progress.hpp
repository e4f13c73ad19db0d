// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "app/progress.hpp"
#include "trainer/report.hpp"
#include "trainer/stopwatch.hpp"

namespace syncbn::app {

/// TrainProgress shows a training run to the user: a line on stdout for each epoch, and in between
/// a bar on stderr or a line on stdout every few seconds.
class TrainProgress {
 public:
  /// `first_step` is the number of steps done before this run.
  TrainProgress(std::int64_t first_step, std::int64_t steps_per_epoch, ProgressStyle style);
  /// Ends the bar's line, so that what is printed next (when training fails, the reason) has a line
  /// of its own.
  ~TrainProgress();
  TrainProgress(const TrainProgress&) = delete;
  TrainProgress& operator=(const TrainProgress&) = delete;

  /// Adds a step to the epoch's totals; call it for every step.
  void count(const trainer::StepReport& report);
  /// Shows how far the run is, after a step that has been counted.
  void show(const trainer::StepReport& report);
  /// Prints a line on stderr.
  void say(const std::string& line);

 private:
  void clear_bar();
  std::string position(const trainer::StepReport& report) const;
  void draw_bar(const trainer::StepReport& report);
  void print_line(const trainer::StepReport& report);
  void print_epoch(const trainer::StepReport& report);

  std::int64_t first_step_;
  std::int64_t steps_per_epoch_;
  bool with_bar_;
  bool bar_is_shown_ = false;
  trainer::Stopwatch watch_;
  double shown_at_ = 0;  ///< [s] of watch_

  // These are totals over the epoch so far.
  std::int64_t epoch_ = 0;
  double loss_sum_ = 0;
  double seconds_ = 0;
  std::int64_t images_ = 0;
};

/// Summarizes a run: accuracy, speed, and where the time of a step went.
std::string summary(const trainer::RunReport& run);

}  // namespace syncbn::app
