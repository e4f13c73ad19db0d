// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

namespace syncbn {

/// 1 / sqrt(var + eps), and 0 where that is 0: a constant channel without eps gives beta, as in
/// PyTorch.
inline double inverse_std(double var, double eps) {
  return var + eps == 0 ? 0 : 1 / std::sqrt(var + eps);
}

/// The mean rounded to float; 0 where that is not finite.
inline float to_pivot(double mean) {
  const auto rounded = static_cast<float>(mean);
  return std::isfinite(rounded) ? rounded : 0.0F;
}

}  // namespace syncbn
