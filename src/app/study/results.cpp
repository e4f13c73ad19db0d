// SPDX-License-Identifier: Apache-2.0
#include "app/study/results.hpp"

#include <cstddef>
#include <limits>

#include "app/study/run.hpp"

namespace syncbn::app::study {

std::vector<double> Results::of(const std::string& experiment, const Json& variant,
                                const Quantity& quantity) const {
  std::vector<double> values;
  for (const std::uint64_t seed : seeds_) {
    values.push_back(quantity(found_.at(run_name(experiment, variant, seed))));
  }
  return values;
}

Results::Quantity final_value(const std::string& quantity) {
  return [quantity](const Json& result) {
    const Json& last = result.at("final");
    const auto found = last.find(quantity);
    return found != last.end() && found->is_number() ? found->get<double>()
                                                     : std::numeric_limits<double>::quiet_NaN();
  };
}

std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> values;
  for (std::size_t i = 0; i < a.size(); ++i) {
    values.push_back(a[i] - b[i]);
  }
  return values;
}

std::vector<double> points_above(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> values = difference(a, b);
  for (double& value : values) {
    value *= 100;
  }
  return values;
}

}  // namespace syncbn::app::study
