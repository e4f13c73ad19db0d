// SPDX-License-Identifier: Apache-2.0
#include "app/scale/scale_progress.hpp"

#include <cstdint>

#include <fmt/format.h>

#include "app/print.hpp"

namespace syncbn::app::scale {

ScaleProgress::ScaleProgress(int rank, std::size_t cells, ProgressStyle style)
    : shows_(rank == 0), with_bar_(is_bar(style)), cells_(cells) {}

ScaleProgress::~ScaleProgress() {
  if (bar_is_shown_) {
    print_error(clear_line);
  }
}

void ScaleProgress::begin(std::size_t done, const std::string& cell) {
  if (!shows_) {
    return;
  }
  const double seconds = watch_.seconds();
  const std::string left =
      done == 0 ? ""
                : fmt::format(", {:.0f} s left", seconds / static_cast<double>(done) *
                                                     static_cast<double>(cells_ - done));
  if (with_bar_) {
    const std::string bar =
        progress_bar(static_cast<std::int64_t>(done), static_cast<std::int64_t>(cells_));
    print_error(fmt::format("{}{}/{} {}{}: {}", clear_line, done, cells_, bar, left, cell));
    bar_is_shown_ = true;
  } else if (seconds - shown_at_ >= line_seconds) {
    shown_at_ = seconds;
    print_at_once(fmt::format("{} of {} cells done{}: {}\n", done, cells_, left, cell));
  }
}

}  // namespace syncbn::app::scale
