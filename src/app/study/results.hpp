// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "app/json.hpp"

namespace syncbn::app::study {

/// Results are what the runs of a study have found, to be compared seed by seed.
class Results {
 public:
  /// `found` has what study::train returned, by the name of the run.
  Results(std::map<std::string, Json> found, std::vector<std::uint64_t> seeds)
      : found_(std::move(found)), seeds_(std::move(seeds)) {}

  using Quantity = std::function<double(const Json& result)>;

  /// Returns a quantity of one variant, for each seed.
  std::vector<double> of(const std::string& experiment, const Json& variant,
                         const Quantity& quantity) const;

  const std::vector<std::uint64_t>& seeds() const { return seeds_; }

 private:
  std::map<std::string, Json> found_;
  std::vector<std::uint64_t> seeds_;
};

/// Returns the last value of a quantity: "test_accuracy". NaN where training diverged before there
/// was one.
Results::Quantity final_value(const std::string& quantity);

/// Returns 100 times what `a` has more than `b`, seed by seed: points of an accuracy.
std::vector<double> points_above(const std::vector<double>& a, const std::vector<double>& b);

/// Returns a - b, seed by seed.
std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace syncbn::app::study
