// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "app/progress.hpp"
#include "trainer/stopwatch.hpp"

namespace syncbn::app {

/// PartProgress shows the user, on the rank that has one, which part of a command's work is done
/// and how long the rest may take.
class PartProgress {
 public:
  /// Shows nothing on other ranks than rank 0. `parts` is what the user calls them: "cells". The
  /// weight of all of them is `weight`, in any unit that is proportional to their time.
  PartProgress(int rank, std::string parts, std::size_t count, double weight, ProgressStyle style);
  /// Takes the bar away.
  ~PartProgress();
  PartProgress(const PartProgress&) = delete;
  PartProgress& operator=(const PartProgress&) = delete;

  /// Tells that `done` parts are done, with `weight` of the whole, and what comes now.
  void show(std::size_t done, double weight, const std::string& now);

 private:
  bool shows_;
  bool with_bar_;
  std::string parts_;
  std::size_t count_;
  double weight_;
  bool bar_is_shown_ = false;
  trainer::Stopwatch watch_;
  double shown_at_ = -line_seconds;  ///< [s] of watch_
};

}  // namespace syncbn::app
