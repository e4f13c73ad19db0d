// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace syncbn::app::bench {

/// A Summary describes repeated measurements of one thing. [s]
struct Summary {
  std::size_t count = 0;
  double min = 0, lower_quartile = 0, median = 0, upper_quartile = 0, max = 0;

  /// Returns half the distance of the quartiles, relative to the median.
  double spread() const;
};

/// Returns the quantile at `share` of one or more ascending samples, interpolated linearly.
double quantile(std::span<const double> sorted, double share);

/// Summarizes one or more samples. Quantiles are interpolated linearly between samples.
Summary summarize(std::vector<double> samples);

}  // namespace syncbn::app::bench
