// SPDX-License-Identifier: Apache-2.0
#include "bn/saved_values.hpp"

#include <algorithm>
#include <cmath>

#include "syncbn/error.hpp"

namespace syncbn::bn {

StateTensor saved_values(const std::string& name, const std::vector<double>& values) {
  const auto odd =
      std::ranges::find_if_not(values, [](double value) { return std::isfinite(value); });
  if (odd != values.end()) {
    throw FileError("tensor '" + name + "' cannot be saved (value " +
                    std::to_string(odd - values.begin()) + " is " + std::to_string(*odd) +
                    ": the layer has diverged). Go on from an earlier state.");
  }
  return StateTensor::from(values);
}

}  // namespace syncbn::bn
