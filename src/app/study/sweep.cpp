// SPDX-License-Identifier: Apache-2.0
#include "app/study/sweep.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace syncbn::app::study {

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

std::vector<double> mean(const Sweep& sweep) {
  std::vector<double> means(sweep.front().size());
  for (const std::vector<double>& accuracies : sweep) {
    for (std::size_t seed = 0; seed < means.size(); ++seed) {
      means[seed] += accuracies[seed] / static_cast<double>(sweep.size());
    }
  }
  return means;
}

std::vector<double> spread(const Sweep& sweep) {
  std::vector<double> least = sweep.front();
  for (const std::vector<double>& accuracies : sweep) {
    for (std::size_t seed = 0; seed < least.size(); ++seed) {
      least[seed] = std::min(least[seed], accuracies[seed]);
    }
  }
  return difference(best(sweep), least);
}

std::vector<double> highest_that_learns(const Sweep& sweep, std::span<const double> values) {
  const std::vector<double> most = best(sweep);
  std::vector<double> highest(most.size());
  for (std::size_t i = 0; i < sweep.size(); ++i) {
    for (std::size_t seed = 0; seed < most.size(); ++seed) {
      if (sweep[i][seed] >= most[seed] / 2) {
        highest[seed] = std::log10(values[i]);
      }
    }
  }
  return highest;
}

}  // namespace syncbn::app::study
