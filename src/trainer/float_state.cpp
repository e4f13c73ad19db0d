// SPDX-License-Identifier: Apache-2.0
#include "trainer/float_state.hpp"

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "syncbn/error.hpp"

namespace syncbn::trainer {

StateTensor floats(const std::vector<float>& values, const std::vector<std::int64_t>& shape) {
  StateTensor tensor = StateTensor::from(values);
  tensor.shape = shape;
  return tensor;
}

std::vector<float> read_floats(const StateDict& state, const std::string& name,
                               const std::vector<std::int64_t>& shape) {
  const auto found = state.tensors.find(name);
  if (found == state.tensors.end()) {
    throw FileError(fmt::format("{} is missing", name));
  }
  if (found->second.shape != shape) {
    throw FileError(fmt::format("{} has shape [{}] (the model's is [{}])", name,
                                fmt::join(found->second.shape, ", "), fmt::join(shape, ", ")));
  }
  std::vector<float> values;
  for (const double value : found->second.as_doubles(name)) {
    if (!std::isfinite(value)) {
      throw FileError(fmt::format("{} has elements that are not finite", name));
    }
    if (std::abs(value) > std::numeric_limits<float>::max()) {
      throw FileError(fmt::format("{} has {}, which is beyond the range of float", name, value));
    }
    values.push_back(static_cast<float>(value));
  }
  return values;
}

}  // namespace syncbn::trainer
