// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "app/progress.hpp"
#include "trainer/stopwatch.hpp"

namespace syncbn::app::scale {

/// ScaleProgress shows the user, on the rank that has one, which cell is measured and how long the
/// rest may take.
class ScaleProgress {
 public:
  /// Shows nothing on other ranks than rank 0.
  ScaleProgress(int rank, std::size_t cells, ProgressStyle style);
  /// Takes the bar away.
  ~ScaleProgress();
  ScaleProgress(const ScaleProgress&) = delete;
  ScaleProgress& operator=(const ScaleProgress&) = delete;

  /// Tells that `done` cells are measured and this one begins.
  void begin(std::size_t done, const std::string& cell);

 private:
  bool shows_;
  bool with_bar_;
  std::size_t cells_;
  bool bar_is_shown_ = false;
  trainer::Stopwatch watch_;
  double shown_at_ = -line_seconds;  ///< [s] of watch_
};

}  // namespace syncbn::app::scale
