// SPDX-License-Identifier: Apache-2.0
#include "app/train_progress.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "app/print.hpp"

namespace syncbn::app {
namespace {

double speed(std::int64_t images, double seconds) {
  return seconds > 0 ? static_cast<double>(images) / seconds : 0;
}

}  // namespace

TrainProgress::TrainProgress(std::int64_t first_step, std::int64_t steps_per_epoch,
                             ProgressStyle style)
    : first_step_(first_step), steps_per_epoch_(steps_per_epoch), with_bar_(is_bar(style)) {}

TrainProgress::~TrainProgress() {
  if (bar_is_shown_) {
    print_error("\n");
  }
}

void TrainProgress::count(const trainer::StepReport& report) {
  if (report.epoch != epoch_) {
    epoch_ = report.epoch;
    loss_sum_ = seconds_ = 0;
    images_ = 0;
  }
  loss_sum_ += report.loss * static_cast<double>(report.images);
  seconds_ += report.times.total;
  images_ += report.images;
}

void TrainProgress::show(const trainer::StepReport& report) {
  if (report.test_accuracy) {
    print_epoch(report);
  } else if (watch_.seconds() - shown_at_ >= (with_bar_ ? redraw_seconds : line_seconds)) {
    shown_at_ = watch_.seconds();
    if (with_bar_) {
      draw_bar(report);
    } else {
      print_line(report);
    }
  }
}

std::string TrainProgress::position(const trainer::StepReport& report) const {
  const double per_step = watch_.seconds() / static_cast<double>(report.step - first_step_);
  return fmt::format("loss {:.4f}, {:.0f} images/s, {:.0f} s left", report.loss,
                     speed(images_, seconds_),
                     per_step * static_cast<double>(report.steps - report.step));
}

void TrainProgress::draw_bar(const trainer::StepReport& report) {
  const std::string bar = fmt::format("{}step {}/{} {} {}", clear_line, report.step, report.steps,
                                      progress_bar(report.step, report.steps), position(report));
  print_error(bar);
  bar_is_shown_ = true;
}

void TrainProgress::print_line(const trainer::StepReport& report) {
  const std::string line =
      fmt::format("step {}/{}: {}\n", report.step, report.steps, position(report));
  print_at_once(line);
}

void TrainProgress::say(const std::string& line) {
  clear_bar();
  print_error(line + '\n');
}

void TrainProgress::clear_bar() {
  if (bar_is_shown_) {
    print_error(clear_line);
    bar_is_shown_ = false;
  }
}

void TrainProgress::print_epoch(const trainer::StepReport& report) {
  clear_bar();
  const std::int64_t epochs = (report.steps + steps_per_epoch_ - 1) / steps_per_epoch_;
  const std::string line = fmt::format(
      "epoch {}/{}, step {}/{}: loss {:.4f}, test accuracy {:.2f} %, {:.0f} images/s\n",
      report.epoch, epochs, report.step, report.steps, loss_sum_ / static_cast<double>(images_),
      100 * *report.test_accuracy, speed(images_, seconds_));
  print_at_once(line);
}

std::string summary(const trainer::RunReport& run) {
  std::string text = fmt::format("\ntest accuracy  {:.2f} % of {} images\n",
                                 100 * run.test_accuracy, run.test_images);
  if (run.steps == 0) {
    return text;
  }
  const trainer::Times& times = run.times;
  const auto steps = static_cast<double>(run.steps);
  text += fmt::format("speed          {:.0f} images/s in {} steps of {:.2f} ms on average\n",
                      speed(run.images, times.total), run.steps, 1e3 * times.total / steps);
  text += "of a step:\n";
  for (const auto& [part, seconds] : {std::pair{"layers", times.layers},
                                      {"batch norm", times.batch_norm},
                                      {"batch norm's exchange", times.batch_norm_exchange},
                                      {"gradient exchange", times.gradient_exchange},
                                      {"update", times.update}}) {
    text += fmt::format("  {:<22}{:>8.3f} ms {:>6.1f} %\n", part, 1e3 * seconds / steps,
                        100 * seconds / times.total);
  }
  text += fmt::format(
      "batch norm with its exchange {:.1f} %, both exchanges {:.1f} % (waiting for "
      "other ranks included)\n",
      100 * times.batch_norm_share(), 100 * times.exchange_share());
  return text;
}

}  // namespace syncbn::app
