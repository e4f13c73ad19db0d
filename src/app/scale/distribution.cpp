// SPDX-License-Identifier: Apache-2.0
#include "app/scale/distribution.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <numeric>

#include <fmt/format.h>

#include "app/bench/samples.hpp"
#include "trainer/random.hpp"

namespace syncbn::app::scale {
namespace {

using bench::quantile;

constexpr std::size_t fewest_for_interval = 6;
constexpr std::size_t batches = 20;
constexpr std::size_t fewest_in_batch = 6;

Interval median_of_independent(std::vector<double> samples) {
  std::ranges::sort(samples);
  const double middle = quantile(samples, 0.5);
  if (samples.size() < fewest_for_interval) {
    return {middle, samples.front(), samples.back()};
  }
  const auto count = static_cast<double>(samples.size());
  const double reach = 1.96 * std::sqrt(count) / 2;  // of the binomial's, by the normal's
  const auto low = static_cast<std::size_t>(std::max(0.0, std::floor(count / 2 - reach) - 1));
  const auto high = static_cast<std::size_t>(std::min(count - 1, std::ceil(count / 2 + reach)));
  return {middle, samples[low], samples[high]};
}

/// Returns where a batch of `count` samples begins.
std::size_t begin_of_batch(std::size_t batch, std::size_t count) {
  return batch * count / batches;
}

bool has_batches(std::size_t count) {
  return count >= batches * fewest_in_batch;
}

/// Returns the medians of successive batches.
std::vector<double> medians_of_batches(const std::vector<double>& samples) {
  std::vector<double> medians;
  for (std::size_t batch = 0; batch < batches; ++batch) {
    const auto at = [&](std::size_t number) {
      return samples.begin() + static_cast<std::ptrdiff_t>(begin_of_batch(number, samples.size()));
    };
    std::vector<double> part(at(batch), at(batch + 1));
    std::ranges::sort(part);
    medians.push_back(quantile(part, 0.5));
  }
  return medians;
}

double median_of_chosen(const std::vector<double>& samples, std::span<const std::size_t> chosen) {
  std::vector<double> drawn;
  for (const std::size_t place : chosen) {
    drawn.push_back(samples[place]);
  }
  const auto middle = drawn.begin() + static_cast<std::ptrdiff_t>(drawn.size() / 2);
  std::ranges::nth_element(drawn, middle);
  if (drawn.size() % 2 == 1) {
    return *middle;
  }
  return (*middle + *std::max_element(drawn.begin(), middle)) / 2;
}

/// Returns places of `count` samples, drawn with replacement, in blocks if there are enough.
std::vector<std::size_t> draw_places(std::size_t count, const trainer::Random& random,
                                     std::size_t first_draw) {
  std::vector<std::size_t> places;
  const std::size_t blocks = has_batches(count) ? batches : count;
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::size_t block = random.below(blocks, first_draw + i);
    for (std::size_t at = block * count / blocks; at < (block + 1) * count / blocks; ++at) {
      places.push_back(at);
    }
  }
  return places;
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

Interval median(const std::vector<double>& samples) {
  Interval found = median_of_independent(samples);
  if (has_batches(samples.size())) {
    const Interval of_batches = median_of_independent(medians_of_batches(samples));
    found.low = std::min(found.low, of_batches.low);
    found.high = std::max(found.high, of_batches.high);
  }
  return found;
}

bool is_enough(std::size_t count, const Interval& interval, std::size_t fewest, double wanted) {
  return count >= std::max(fewest, fewest_for_interval) && interval.relative_half_width() <= wanted;
}

Interval ratio_of_medians(std::span<const std::vector<double>> above,
                          std::span<const std::vector<double>> below, std::uint64_t seed) {
  constexpr std::size_t draws = 500;
  const trainer::Random random({seed});
  const std::size_t count = above.front().size();
  std::vector<std::size_t> all(count);
  std::iota(all.begin(), all.end(), std::size_t{0});
  std::vector<double> ratios;
  for (std::size_t draw = 0; draw < draws; ++draw) {
    ratios.push_back(ratio_of_chosen(above, below, draw_places(count, random, draw * count)));
  }
  std::ranges::sort(ratios);
  return {ratio_of_chosen(above, below, all), quantile(ratios, 0.025), quantile(ratios, 0.975)};
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
  const Interval middle = median(samples);
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
