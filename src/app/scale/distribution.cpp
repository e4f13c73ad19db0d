// SPDX-License-Identifier: Apache-2.0
#include "app/scale/distribution.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>

#include <fmt/format.h>

#include "trainer/random.hpp"

namespace syncbn::app::scale {
namespace {

/// Returns the quantile at `share`, interpolated between samples.
double quantile(std::span<const double> sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Interval median_of_sorted(std::span<const double> sorted) {
  constexpr std::size_t fewest = 6;
  const double middle = quantile(sorted, 0.5);
  if (sorted.size() < fewest) {
    return {middle, sorted.front(), sorted.back()};
  }
  const auto count = static_cast<double>(sorted.size());
  const double reach = 1.96 * std::sqrt(count) / 2;  // of the binomial's, by the normal's
  const auto low = static_cast<std::size_t>(std::max(0.0, std::floor(count / 2 - reach) - 1));
  const auto high = static_cast<std::size_t>(std::min(count - 1, std::ceil(count / 2 + reach)));
  return {middle, sorted[low], sorted[high]};
}

double median_of_chosen(const std::vector<double>& samples, std::span<const std::size_t> chosen) {
  std::vector<double> drawn;
  for (const std::size_t place : chosen) {
    drawn.push_back(samples[place]);
  }
  const auto middle = drawn.begin() + static_cast<std::ptrdiff_t>(drawn.size() / 2);
  std::ranges::nth_element(drawn, middle);
  return *middle;
}

double ratio_of_chosen(std::span<const std::vector<double>> above,
                       std::span<const std::vector<double>> below,
                       std::span<const std::size_t> chosen) {
  const auto sum = [&](std::span<const std::vector<double>> parts) {
    double total = 0;
    for (const std::vector<double>& part : parts) {
      total += median_of_chosen(part, chosen);
    }
    return total;
  };
  return sum(above) / sum(below);
}

}  // namespace

double Interval::relative_half_width() const {
  return value > 0 ? (high - low) / 2 / value : 0;
}

Interval median(std::vector<double> samples) {
  std::ranges::sort(samples);
  return median_of_sorted(samples);
}

Interval ratio_of_medians(std::span<const std::vector<double>> above,
                          std::span<const std::vector<double>> below, std::uint64_t seed) {
  constexpr std::size_t draws = 500;
  const trainer::Random random({seed});
  std::vector<std::size_t> chosen(above.front().size());
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    chosen[i] = i;
  }
  const double value = ratio_of_chosen(above, below, chosen);
  std::vector<double> ratios;
  for (std::size_t draw = 0; draw < draws; ++draw) {
    const std::size_t count = chosen.size();
    for (std::size_t i = 0; i < count; ++i) {
      chosen[i] = random.below(count, draw * count + i);
    }
    ratios.push_back(ratio_of_chosen(above, below, chosen));
  }
  std::ranges::sort(ratios);
  return {value, quantile(ratios, 0.025), quantile(ratios, 0.975)};
}

Json to_json(const Interval& interval) {
  return {{"value", rounded(interval.value)},
          {"low", rounded(interval.low)},
          {"high", rounded(interval.high)}};
}

double rounded(double number) {
  return std::strtod(fmt::format("{:.4g}", number).c_str(), nullptr);
}

Json describe(const std::vector<double>& samples) {
  std::vector<double> sorted = samples;
  std::ranges::sort(sorted);
  const Interval middle = median_of_sorted(sorted);
  Json quantiles = Json::array();
  for (const double share : probabilities) {
    quantiles.push_back(rounded(quantile(sorted, share)));
  }
  return {{"count", samples.size()},
          {"median", rounded(middle.value)},
          {"low", rounded(middle.low)},
          {"high", rounded(middle.high)},
          {"quantiles", quantiles}};
}

}  // namespace syncbn::app::scale
