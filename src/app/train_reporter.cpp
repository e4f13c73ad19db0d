// SPDX-License-Identifier: Apache-2.0
#include "app/train_reporter.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "trainer/agreement.hpp"

namespace syncbn::app {

TrainReporter::TrainReporter(const trainer::Trainer& trainer, std::filesystem::path log,
                             ProgressStyle progress, const Communicator& ranks)
    : leads_(ranks.rank() == 0),
      progress_(trainer.steps_done(), trainer.steps_per_epoch(), progress),
      log_file_(std::move(log)),
      ranks_at_start_(ranks.size()) {
  trainer::agree(ranks, [&] {
    if (leads_) {
      continue_log(trainer.steps_done());
    }
  });
}

void TrainReporter::on_step(const trainer::StepReport& report) {
  last_ = report;
  progress_.count(report);
  if (log_) {
    log_->write(report);
  }
  if (leads_) {
    progress_.show(report);
  }
}

void TrainReporter::leave_the_lost(const Survivors& survivors) {
  lost_.insert(lost_.end(), survivors.lost.begin(), survivors.lost.end());
  std::ranges::sort(lost_);
  last_resort_ = survivors.last_resort;
}

void TrainReporter::on_recovery(std::int64_t steps_done, const Communicator& ranks) {
  last_resort_.reset();
  leads_ = ranks.rank() == 0;
  if (leads_) {
    progress_.say(fmt::format(
        "syncbn train: {} {} of the {} at the start {} lost; the {} left go{} on with step {}",
        lost_.size() == 1 ? "rank" : "ranks", fmt::join(lost_, ", "), ranks_at_start_,
        lost_.size() == 1 ? "is" : "are", ranks.size(), ranks.size() == 1 ? "es" : "",
        steps_done + 1));
    continue_log(steps_done);
  }
  lost_.clear();
}

/// Goes on with the log of the rank that led. The last step done is written again, as it may be
/// missing if that rank was lost.
void TrainReporter::continue_log(std::int64_t steps_done) {
  if (log_file_.empty()) {
    return;
  }
  const bool known = last_ && last_->step == steps_done;
  log_.emplace(log_file_, known ? steps_done : steps_done + 1);
  if (known) {
    log_->write(*last_);
  }
}

}  // namespace syncbn::app
