// SPDX-License-Identifier: Apache-2.0
#include "trainer/weights.hpp"

#include <functional>
#include <numeric>

namespace syncbn::trainer {

Parameter filled(std::string name, std::vector<std::int64_t> shape, float value) {
  const auto size = static_cast<std::size_t>(
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()));
  return {std::move(name), std::move(shape), std::vector<float>(size, value),
          std::vector<double>(size)};
}

Weights::Weights(const std::string& name, std::vector<std::int64_t> shape, dnn::Bias bias,
                 const Initialization& initialization) {
  const std::int64_t outputs = shape.front();
  parameters_.push_back(filled(name + ".weight", std::move(shape), 0));
  std::vector<float>& weight = parameters_.front().value;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    weight[i] = static_cast<float>(initialization.random.normal(i) * initialization.deviation);
  }
  if (bias == dnn::Bias::with) {
    parameters_.push_back(filled(name + ".bias", {outputs}, 0));
  }
}

}  // namespace syncbn::trainer
