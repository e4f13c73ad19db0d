// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace syncbn::app::study {

/// A ScaleError says how far a tensor is from what the identity gives, relative to the largest
/// element, and how far rounding alone may put it.
struct ScaleError {
  double error = 0;
  double tolerance = 0;
};

/// ScaleErrors are those of BN((aW)u) = BN(Wu) for one scale a, in doubles and with eps = 0.
struct ScaleErrors {
  double scale = 1;
  ScaleError output;
  ScaleError input_gradient;   ///< that of u: unchanged
  ScaleError weight_gradient;  ///< that of aW: that of W over a
  double output_with_eps = 0;  ///< error of the output with eps = 1e-5, which breaks the identity
};

/// Local. Checks the identity for each of the scales, with W, u and the gradient of the output
/// drawn from `seed`.
std::vector<ScaleErrors> scale_errors(std::uint64_t seed, std::span<const double> scales);

/// Returns the largest of all errors over its tolerance; infinity if one is no number.
double worst_share_of_tolerance(const std::vector<ScaleErrors>& errors);

}  // namespace syncbn::app::study
