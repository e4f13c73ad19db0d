// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "app/check/batch.hpp"

namespace syncbn::app::check {

/// A quantity as it should be, with what is forgiven in each channel.
struct Exact {
  Values values;                  ///< [C, N, S] or [C]
  std::vector<double> tolerance;  ///< [C] absolute
  std::vector<double> scale;      ///< [C] sum of the magnitudes of the terms it is made of
};

/// A training step of one process with the whole batch: batch norm by its definition, the mean
/// first, then the variance about it, in long double. Shares no code with the library.
struct Expected {
  Exact y;
  Exact dx;
  Exact dresidual;  ///< empty without a residual
  Exact weight_grad;
  Exact bias_grad;
  Exact mean;          ///< of the batch
  Exact unbiased_var;  ///< of the batch
};

/// About what a layer on a device takes its sums, if not to the bit.
struct Pivot {
  Values values;                  ///< [C]
  std::vector<double> tolerance;  ///< [C] absolute
  bool first = false;  ///< these are to find the mean, about which they are then taken again
};

/// What the running mean foretells after `steps` steps.
Pivot foretell(const Exact& running_mean, int steps, double momentum);

/// Changes dy to 0 where rounding decides about the activation (see tolerance.hpp).
Expected expect(const Case& one, const Parameters& parameters, double eps, const Pivot& pivot,
                Batch& batch);

/// running <- (1 - momentum) running + momentum newest, with the tolerance that follows.
void update_running(Exact& running, const Exact& newest, double momentum);

}  // namespace syncbn::app::check
