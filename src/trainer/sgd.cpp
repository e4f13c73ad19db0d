// SPDX-License-Identifier: Apache-2.0
#include "trainer/sgd.hpp"

#include "trainer/float_state.hpp"

namespace syncbn::trainer {
namespace {

std::string name_of(const Parameter& parameter) {
  return "velocity." + parameter.name;
}

}  // namespace

Sgd::Sgd(std::span<Parameter* const> parameters, double momentum)
    : parameters_(parameters.begin(), parameters.end()), momentum_(momentum) {
  for (const Parameter* parameter : parameters_) {
    velocities_.emplace_back(parameter->value.size());
  }
}

void Sgd::step(std::span<const double> gradients, double rate) {
  const double* gradient = gradients.data();
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    float* value = parameters_[p]->value.data();
    for (float& velocity : velocities_[p]) {
      velocity = static_cast<float>(momentum_ * velocity + *gradient++);
      *value = static_cast<float>(*value - rate * velocity);
      ++value;
    }
  }
}

void Sgd::save_state(StateDict& state) const {
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    state.tensors[name_of(*parameters_[p])] = floats(velocities_[p], parameters_[p]->shape);
  }
}

void Sgd::load_state(const StateDict& state) {
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    velocities_[p] = read_floats(state, name_of(*parameters_[p]), parameters_[p]->shape);
  }
}

}  // namespace syncbn::trainer
