// SPDX-License-Identifier: Apache-2.0
#include "app/part_progress.hpp"

#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "app/print.hpp"

namespace syncbn::app {

PartProgress::PartProgress(int rank, std::string parts, std::size_t count, double weight,
                           ProgressStyle style)
    : shows_(rank == 0),
      with_bar_(is_bar(style)),
      parts_(std::move(parts)),
      count_(count),
      weight_(weight) {}

PartProgress::~PartProgress() {
  if (bar_is_shown_) {
    print_error(clear_line);
  }
}

void PartProgress::show(std::size_t done, double weight, const std::string& now) {
  const double seconds = watch_.seconds();
  if (!shows_ || (!with_bar_ && seconds - shown_at_ < line_seconds)) {
    return;
  }
  shown_at_ = seconds;
  const std::string left =
      weight > 0 ? fmt::format(", {:.0f} s left", seconds / weight * (weight_ - weight)) : "";
  if (with_bar_) {
    constexpr std::int64_t whole = 1000;
    const std::string bar =
        progress_bar(static_cast<std::int64_t>(whole * weight / weight_), whole);
    print_error(fmt::format("{}{}/{} {}{}: {}", clear_line, done, count_, bar, left, now));
    bar_is_shown_ = true;
  } else {
    print_at_once(fmt::format("{} of {} {} done{}: {}\n", done, count_, parts_, left, now));
  }
}

}  // namespace syncbn::app
