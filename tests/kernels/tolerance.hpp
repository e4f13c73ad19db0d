// SPDX-License-Identifier: Apache-2.0
#pragma once

// How far kernels may be off the reference: derived, not tuned.

#include <cstdint>

#include "kernels/problem.hpp"

namespace syncbn::test {

/// Roundings of a term in float until it is added to doubles, if `dtype`'s terms are of float.
double float_roundings_on_cpu(DType dtype);

/// Per channel, how far each of the sums may be off.
Sums forward_tolerance(const Problem& problem, double float_roundings);
Sums backward_tolerance(const Problem& problem, bool relu, bool from_y, double float_roundings);

void expect_near(const Sums& got, const Sums& expected, const Sums& tolerance);

/// Of single elements.
struct Bounds {
  const Problem& problem;

  /// Computing something of first order `first` and second order `second` in kernel and reference.
  double computing(double first, double second) const;
  /// Rounding both to the element type.
  double storing(double value) const;
  double of_z(std::int64_t n, std::int64_t c, std::int64_t s, bool with_residual) const;
  double of_dx(std::int64_t n, std::int64_t c, std::int64_t s) const;
  /// Whether kernel and reference may disagree on the sign of z.
  bool either_way(std::int64_t n, std::int64_t c, std::int64_t s) const;
};

void expect_near(const Problem& problem, const Tensor& y, const Tensor& expected,
                 bool with_residual);
void expect_near(const Problem& problem, const Gradients& got, const Gradients& expected,
                 bool recomputed_mask, bool with_residual);

}  // namespace syncbn::test
