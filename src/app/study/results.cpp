// SPDX-License-Identifier: Apache-2.0
#include "app/study/results.hpp"

#include <cstddef>

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
  return [quantity](const Json& result) { return result["final"][quantity].get<double>(); };
}

Results::Quantity value_after(const std::string& quantity, double share_of_steps) {
  return [=](const Json& result) {
    const Json& series = result["series"];
    if (!result["diverged_at"].is_null()) {
      return result["final"][quantity].get<double>();
    }
    const double step = share_of_steps * series["step"].back().get<double>();
    std::size_t place = 0;
    while (series["step"][place].get<double>() < step) {
      ++place;
    }
    return series[quantity][place].get<double>();
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
