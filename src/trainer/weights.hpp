// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trainer/dnn.hpp"
#include "trainer/layers.hpp"

namespace syncbn::trainer {

/// Returns a parameter whose elements all have that value.
Parameter filled(std::string name, std::vector<std::int64_t> shape, float value);

/// Holds the parameters of a layer that multiplies: a weight, and a bias if it has one.
class Weights {
 public:
  Weights(const std::string& name, std::vector<std::int64_t> shape, dnn::Bias bias,
          const Initialization& initialization);

  std::span<Parameter> parameters() { return parameters_; }
  const float* weight() const { return parameters_[0].value.data(); }
  double* weight_gradient() { return parameters_[0].gradient.data(); }
  /// Returns null without a bias, and so does bias_gradient.
  const float* bias() const { return has_bias() ? parameters_[1].value.data() : nullptr; }
  double* bias_gradient() { return has_bias() ? parameters_[1].gradient.data() : nullptr; }

 private:
  bool has_bias() const { return parameters_.size() == 2; }

  std::vector<Parameter> parameters_;
};

}  // namespace syncbn::trainer
