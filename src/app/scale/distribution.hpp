// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include <nlohmann/json.hpp>

namespace syncbn::app::scale {

using Json = nlohmann::ordered_json;

/// The probabilities of a distribution's quantiles.
inline constexpr std::array probabilities{0.0, 0.01, 0.02, 0.05, 0.1, 0.2,  0.25, 0.3,  0.4, 0.5,
                                          0.6, 0.7,  0.75, 0.8,  0.9, 0.95, 0.98, 0.99, 1.0};

/// An Interval is one that has the true value in it with a probability of 95 %.
struct Interval {
  double value = 0, low = 0, high = 0;

  /// Returns half the interval's width, relative to the value.
  double relative_half_width() const;
};

/// Returns the median of one or more samples. Its interval lies between two of the samples, of
/// whose places the binomial distribution tells (Le Boudec 2010, Performance Evaluation, section
/// 2.2): it holds for independent samples of any distribution. Below six samples no such interval
/// exists; then it is the whole range.
Interval median(std::vector<double> samples);

/// Returns the sum of the medians of `above` over the sum of the medians of `below`. All have the
/// same number of samples; those of one repetition are at the same place. The interval is by 500
/// bootstrap samples of the repetitions (Efron & Tibshirani 1993, section 13.3), drawn from `seed`.
Interval ratio_of_medians(std::span<const std::vector<double>> above,
                          std::span<const std::vector<double>> below, std::uint64_t seed);

Json to_json(const Interval& interval);

/// Describes samples in seconds: how many, their median with its interval, and quantiles.
Json describe(const std::vector<double>& samples);

/// Returns the number with four significant digits, which is as good as any measured time.
double rounded(double number);

}  // namespace syncbn::app::scale
