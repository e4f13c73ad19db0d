// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "syncbn/state.hpp"

#include "trainer/layer.hpp"

namespace syncbn::trainer {

/// Does stochastic gradient descent with momentum: v = momentum v + g, w = w - rate v.
class Sgd {
 public:
  Sgd(std::span<Parameter* const> parameters, double momentum);

  /// Takes one step. `gradients` are those of all parameters, one after the other.
  void step(std::span<const double> gradients, double rate);

  /// Save and load each velocity under "velocity." and the parameter's name.
  void save_state(StateDict& state) const;
  void load_state(const StateDict& state);

 private:
  std::vector<Parameter*> parameters_;
  double momentum_;
  std::vector<std::vector<float>> velocities_;
};

}  // namespace syncbn::trainer
