// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "app/study/results.hpp"
#include "trainer/train_options.hpp"

namespace syncbn::app::study {

/// A Sweep has the final accuracies of one network: for each value of the swept factor, one for
/// each seed.
using Sweep = std::vector<std::vector<double>>;

/// Returns the sweep of an experiment whose variants have a norm and that factor.
Sweep sweep_of(const Results& results, const std::string& experiment, trainer::Norm norm,
               const std::string& factor, std::span<const double> values);

/// Returns the best accuracy of a sweep, for each seed.
std::vector<double> best(const Sweep& sweep);

/// Returns the mean accuracy over a sweep, for each seed.
std::vector<double> mean(const Sweep& sweep);

/// Returns the best accuracy less the worst, for each seed.
std::vector<double> spread(const Sweep& sweep);

/// Returns the decimal logarithm of the highest value with which at least half of the sweep's best
/// accuracy is reached, for each seed.
std::vector<double> highest_that_learns(const Sweep& sweep, std::span<const double> values);

}  // namespace syncbn::app::study
