// SPDX-License-Identifier: Apache-2.0
#include "app/bench/samples.hpp"

#include <algorithm>

namespace syncbn::app::bench {
double quantile(std::span<const double> sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

double Summary::spread() const {
  return median > 0 ? (upper_quartile - lower_quartile) / 2 / median : 0;
}

Summary summarize(std::vector<double> samples) {
  std::ranges::sort(samples);
  return {samples.size(),         samples.front(),         quantile(samples, 0.25),
          quantile(samples, 0.5), quantile(samples, 0.75), samples.back()};
}

}  // namespace syncbn::app::bench
