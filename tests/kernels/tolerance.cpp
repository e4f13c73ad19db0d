// SPDX-License-Identifier: Apache-2.0

// Sums. A term computed in double has a relative error of at most 4 u (u = 2^-53): the difference
// has u, its square 2 u from it and u of its own, one more for second order. Summing n terms in any
// order adds at most (n - 1) u times the sum of their magnitudes (Higham, Accuracy and
// Stability, 4.2). The reference has 11 bits more and rounds once at the end. With a weight each
// term is rounded once more. Together: (n + 5) u sum|terms|.
//
// Where terms are computed and some of them added in float first, each rounding of that adds
// 2^-24 sum|terms|.
//
// Single elements. Let w be the unit round-off of the arithmetic (2^-24, for f64 2^-53), t = x -
// mean. The mean as a pair is off by w^2 |mean|; x - mean_hi rounds by w (|t| + w |mean|), the
// second subtraction by w |t|: t is off by 2 w |t| + 2 w^2 |mean|. Rounding scale, the product,
// shift, the sum and the sum with the residual r adds w |t scale| twice, w |shift|, w |z| and w |z
// + r|. Altogether
//   z:  w (6 |t scale| + 3 |shift| + |r|) + 2 w^2 |mean scale|.
// For dx, with g = dz - mean_dz, off by 2 w |g| + 2 w^2 |mean_dz| for the same reasons, and
// h = t slope, off by 4 w |h| + 2 w^2 |mean slope|, the difference rounds by w (|g| + |h|), scale
// and the last product by w as much each:
//   dx: |scale| (w (5 |g| + 7 |h|) + 2 w^2 (|mean_dz| + |mean slope|)).
// A slope on the lower side is rounded, and so is the product: twice |z|, or |dz|, more.
// With weights dx = scale (dz - v (mean_dz + h)): two more roundings of h, and v in front.
// Times 1.01 for what is of higher order. The reference errs likewise with 2^-53, and each of the
// two results is rounded to the element type.

#include "kernels/tolerance.hpp"

#include <cmath>
#include <cstddef>

#include <gtest/gtest.h>

namespace syncbn::test {
namespace {

Sums no_error(const Problem& problem) {
  const auto channels = static_cast<std::size_t>(problem.x.shape().c);
  return {std::vector<double>(channels), std::vector<double>(channels)};
}

Sums rounding(Sums magnitudes, const Problem& problem, double float_roundings) {
  const auto n = static_cast<double>(problem.x.shape().per_channel());
  const double relative = (n + 5) * 0x1p-53 + float_roundings * 0x1p-24;
  for (auto* values : {&magnitudes.first, &magnitudes.second}) {
    for (double& value : *values) {
      value *= relative;
    }
  }
  return magnitudes;
}

// Where the recomputed z is as good as 0, kernel and reference may disagree on whether dy passes:
// z's error is below 6 u |x - mean| |scale| + 3 u |shift| + 2 u^2 |mean| |scale|, as
// above.
bool either_way(const Problem& problem, std::int64_t c, double x) {
  const auto i = static_cast<std::size_t>(c);
  const double u = unit_of_arithmetic(problem.x.dtype());
  const double scaled = (x - problem.mean[i]) * problem.scale[i];
  const double error = 6 * std::fabs(scaled) + 3 * std::fabs(problem.shift[i]) +
                       2 * u * std::fabs(problem.mean[i] * problem.scale[i]);
  return std::fabs(scaled + problem.shift[i]) <= 1.01 * u * error;
}

}  // namespace

Sums forward_tolerance(const Problem& problem, double float_roundings) {
  Sums magnitudes = no_error(problem);
  for_each(problem.x.shape(), [&](auto n, auto c, auto s) {
    const auto i = static_cast<std::size_t>(c);
    const double v = problem.weight_at(n, s);
    const double d = v == 0 ? 0 : problem.x.at(n, c, s) - problem.pivot[i];
    magnitudes.first[i] += v * std::fabs(d);
    magnitudes.second[i] += v * d * d;
  });
  return rounding(magnitudes, problem, float_roundings);
}

Sums backward_tolerance(const Problem& problem, bool relu, bool from_y, double float_roundings) {
  Sums magnitudes = no_error(problem);
  Sums undecided = no_error(problem);
  for_each(problem.x.shape(), [&](auto n, auto c, auto s) {
    const auto i = static_cast<std::size_t>(c);
    if (problem.weight_at(n, s) == 0) {
      return;
    }
    const double x = problem.x.at(n, c, s);
    const double dy = std::fabs(problem.dy.at(n, c, s));
    const double product = dy * std::fabs(x - problem.mean[i]);
    magnitudes.first[i] += dy;
    magnitudes.second[i] += product;
    if (relu && !from_y && either_way(problem, c, x)) {
      undecided.first[i] += dy;
      undecided.second[i] += product;
    }
  });
  Sums tolerance = rounding(magnitudes, problem, float_roundings);
  for (std::size_t i = 0; i < tolerance.first.size(); ++i) {
    tolerance.first[i] += undecided.first[i];
    tolerance.second[i] += undecided.second[i];
  }
  return tolerance;
}

void expect_near(const Sums& got, const Sums& expected, const Sums& tolerance) {
  for (std::size_t c = 0; c < expected.first.size(); ++c) {
    ASSERT_NEAR(got.first[c], expected.first[c], tolerance.first[c]) << "channel " << c;
    ASSERT_NEAR(got.second[c], expected.second[c], tolerance.second[c]) << "channel " << c;
  }
}

double Bounds::computing(double first, double second) const {
  const double w = unit_of_arithmetic(problem.x.dtype());
  const double u = unit(DType::f64);
  return 1.01 * ((w + u) * first + (w * w + u * u) * second) + 0x1p-140;
}

double Bounds::storing(double value) const {
  return 2 * (1.01 * unit(problem.x.dtype()) * std::fabs(value) + smallest(problem.x.dtype()));
}

double Bounds::of_z(std::int64_t n, std::int64_t c, std::int64_t s, bool with_residual) const {
  const auto i = static_cast<std::size_t>(c);
  const double scaled = (problem.x.at(n, c, s) - problem.mean[i]) * problem.scale[i];
  const double residual = with_residual ? problem.residual.at(n, c, s) : 0;
  return computing(
      8 * std::fabs(scaled) + 5 * std::fabs(problem.shift[i]) + 3 * std::fabs(residual),
      2 * std::fabs(problem.mean[i] * problem.scale[i]));
}

double Bounds::of_dx(std::int64_t n, std::int64_t c, std::int64_t s) const {
  const auto i = static_cast<std::size_t>(c);
  const double v = problem.weight_at(n, s);
  const double g = std::fabs(problem.dy.at(n, c, s)) + v * std::fabs(problem.mean_dz[i]);
  const double h = v * std::fabs((problem.x.at(n, c, s) - problem.mean[i]) * problem.grad_slope[i]);
  return std::fabs(problem.scale[i]) *
         computing(7 * g + 9 * h, 2 * v *
                                      (std::fabs(problem.mean_dz[i]) +
                                       std::fabs(problem.mean[i] * problem.grad_slope[i])));
}

bool Bounds::either_way(std::int64_t n, std::int64_t c, std::int64_t s) const {
  const auto i = static_cast<std::size_t>(c);
  const double z = (problem.x.at(n, c, s) - problem.mean[i]) * problem.scale[i] + problem.shift[i];
  return std::fabs(z) <= of_z(n, c, s, false);
}

namespace {

// Whether both are 0, as they should be where the weight is 0.
bool both_absent(const Problem& problem, double got, double expected, std::int64_t n,
                 std::int64_t s) {
  return problem.weight_at(n, s) == 0 && got == 0 && expected == 0;
}

// As EXPECT_NEAR, for many calls: the text costs only where it fails.
void expect_near(double got, double expected, double tolerance, const Shape& at) {
  if (!(std::fabs(got - expected) <= tolerance)) {
    ADD_FAILURE() << got << " instead of " << expected << " +- " << tolerance << " at " << at.n
                  << ", " << at.c << ", " << at.s;
  }
}

}  // namespace

void expect_near(const Problem& problem, const Tensor& y, const Tensor& expected,
                 bool with_residual) {
  const Bounds bounds{problem};
  for_each(problem.x.shape(), [&](auto n, auto c, auto s) {
    const double value = expected.at(n, c, s);
    if (both_absent(problem, y.at(n, c, s), value, n, s)) {
      return;
    }
    const double tolerance = bounds.of_z(n, c, s, with_residual) + bounds.storing(value);
    expect_near(y.at(n, c, s), value, tolerance, {n, c, s});
  });
}

void expect_near(const Problem& problem, const Gradients& got, const Gradients& expected,
                 bool recomputed_mask, bool with_residual) {
  const Bounds bounds{problem};
  for_each(problem.x.shape(), [&](auto n, auto c, auto s) {
    if (recomputed_mask && bounds.either_way(n, c, s)) {
      return;
    }
    const double dx = expected.dx.at(n, c, s);
    if (both_absent(problem, got.dx.at(n, c, s), dx, n, s)) {
      return;
    }
    const double tolerance = bounds.of_dx(n, c, s) + bounds.storing(dx);
    expect_near(got.dx.at(n, c, s), dx, tolerance, {n, c, s});
    if (with_residual) {
      const double dz = expected.dresidual.at(n, c, s);
      const bool scaled = problem.relu_slope != 0;
      expect_near(got.dresidual.at(n, c, s), dz,
                  scaled ? bounds.computing(2 * std::fabs(dz), 0) + bounds.storing(dz) : 0,
                  {n, c, s});
    }
  });
}

double float_roundings_on_cpu(DType dtype) {
  return size_of(dtype) == 2 ? 13 : 0;
}

}  // namespace syncbn::test
