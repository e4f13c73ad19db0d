// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "app/study/results.hpp"
#include "trainer/train_options.hpp"

namespace syncbn::app::study {

/// A Sweep has the final test accuracies of a network at several values of a factor: for each value
/// one accuracy a seed.
using Sweep = std::vector<std::vector<double>>;

/// Returns the sweep of an experiment's networks with one norm over the values of a factor.
Sweep sweep_of(const Results& results, const std::string& experiment, trainer::Norm norm,
               const std::string& factor, std::span<const double> values);

/// Returns the best accuracy in the sweep, for each seed.
std::vector<double> best(const Sweep& sweep);

/// Returns, for each seed, over how many decades the accuracy is within 5 points of the best that
/// any of the networks reaches. Neighbouring values are `apart`. [decades]
std::vector<double> decades(const Sweep& sweep, std::span<const Sweep* const> networks,
                            double apart);

}  // namespace syncbn::app::study
