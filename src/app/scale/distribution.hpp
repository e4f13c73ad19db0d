// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "app/json.hpp"

namespace syncbn::app::scale {

/// The probabilities of a distribution's quantiles.
inline constexpr std::array probabilities{0.0, 0.01, 0.02, 0.05, 0.1, 0.2,  0.25, 0.3,  0.4, 0.5,
                                          0.6, 0.7,  0.75, 0.8,  0.9, 0.95, 0.98, 0.99, 1.0};

/// An Interval is one that has the true value in it with a probability of 95 %.
struct Interval {
  double value = 0, low = 0, high = 0;

  /// Returns half the interval's width, relative to the value.
  double relative_half_width() const;
};

/// Returns the median of one or more samples, in the order in which they were taken.
///
/// The interval assumes no distribution. For independent samples it lies between two of them, whose
/// places the binomial distribution gives (Le Boudec 2010, Performance Evaluation, section 2.2).
/// Samples that follow each other are alike, and then it would be too narrow; so from 120 samples
/// on, the same is done with the medians of 20 successive batches (Law & Kelton, Simulation
/// Modeling and Analysis, section 9.5, does it with means), and the wider interval counts. Below
/// six samples there is no such interval; then it is the whole range.
Interval median(const std::vector<double>& samples);

/// Returns whether so many samples with this interval will do: there are at least `fewest` of them,
/// and six, and half the width is at most `wanted` of the median.
bool is_enough(std::size_t count, const Interval& interval, std::size_t fewest, double wanted);

/// Returns the sum of the medians of `above` over the sum of the medians of `below`. All have the
/// same number of samples; those of one repetition are at the same place. The interval is by 500
/// bootstrap samples, drawn from `seed`, of 20 blocks of successive repetitions, or of single ones
/// if there are fewer than 120 (Künsch, Annals of Statistics 17, 1989).
Interval ratio_of_medians(std::span<const std::vector<double>> above,
                          std::span<const std::vector<double>> below, std::uint64_t seed);

Json to_json(const Interval& interval);

/// Describes samples in seconds: how many, their median with its interval, and quantiles.
Json describe(const std::vector<double>& samples);

/// Returns the number with four significant digits, which is as good as any measured time.
double rounded(double number);

}  // namespace syncbn::app::scale
