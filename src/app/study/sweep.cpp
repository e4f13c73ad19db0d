// SPDX-License-Identifier: Apache-2.0
#include "app/study/sweep.hpp"

#include <algorithm>
#include <cstddef>

namespace syncbn::app::study {
namespace {

constexpr double near = 0.05;

}  // namespace

Sweep sweep_of(const Results& results, const std::string& experiment, trainer::Norm norm,
               const std::string& factor, std::span<const double> values) {
  Sweep sweep;
  for (const double value : values) {
    sweep.push_back(results.of(experiment, {{"norm", to_string(norm)}, {factor, value}},
                               final_value("test_accuracy")));
  }
  return sweep;
}

std::vector<double> best(const Sweep& sweep) {
  std::vector<double> most = sweep.front();
  for (const std::vector<double>& accuracies : sweep) {
    for (std::size_t seed = 0; seed < most.size(); ++seed) {
      most[seed] = std::max(most[seed], accuracies[seed]);
    }
  }
  return most;
}

std::vector<double> decades(const Sweep& sweep, std::span<const Sweep* const> networks,
                            double apart) {
  Sweep bests;
  for (const Sweep* network : networks) {
    bests.push_back(best(*network));
  }
  const std::vector<double> most = best(bests);
  std::vector<double> range(most.size());
  for (const std::vector<double>& accuracies : sweep) {
    for (std::size_t seed = 0; seed < most.size(); ++seed) {
      range[seed] += accuracies[seed] >= most[seed] - near ? apart : 0;
    }
  }
  return range;
}

}  // namespace syncbn::app::study
