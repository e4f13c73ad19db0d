// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "app/check/batch.hpp"

namespace syncbn::app::check {

/// An Exact is a quantity as it should be, with the error that is allowed in each channel.
struct Exact {
  Values values;                  ///< [C, N, S] or [C]
  std::vector<double> tolerance;  ///< [C] absolute
  std::vector<double> scale;      ///< [C] sum of the magnitudes of the terms of a value
};

/// Expected holds the results of a training step of one process with the whole batch. They are
/// computed by the definition of batch norm, first the mean and then the variance about it, in long
/// double, and share no code with the library.
struct Expected {
  Exact y;
  Exact dx;
  Exact dresidual;  ///< empty without a residual
  Exact weight_grad;
  Exact bias_grad;
  Exact mean;          ///< the batch's mean
  Exact unbiased_var;  ///< the batch's variance
};

/// A Pivot is what a layer on a device takes its sums about, up to a tolerance.
struct Pivot {
  Values values;                  ///< [C]
  std::vector<double> tolerance;  ///< [C] absolute
  bool first = false;  ///< these sums only find the mean, about which they are taken again
};

/// Predicts the pivot from the running mean after `steps` steps.
Pivot foretell(const Exact& running_mean, int steps, double momentum);

/// Computes what a step should give. Sets dy to 0 where rounding decides on which side of the
/// activation a value is (see tolerance.hpp).
Expected expect(const Case& one, const Parameters& parameters, double eps, const Pivot& pivot,
                Batch& batch);

/// Sets running to (1 - momentum) running + momentum newest, and its tolerance to what follows.
void update_running(Exact& running, const Exact& newest, double momentum);

}  // namespace syncbn::app::check
