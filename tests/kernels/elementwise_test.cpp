// SPDX-License-Identifier: Apache-2.0

// Both kernels that write an element for every element, against the reference.
//
// Let w be the unit round-off of the arithmetic (2^-24, for f64 2^-53), t = x - mean. The mean as a
// pair is off by w^2 |mean|; x - mean_hi rounds by w (|t| + w |mean|), the second subtraction by
// w |t|: t is off by 2 w |t| + 2 w^2 |mean|. Rounding scale, the product, shift, the sum and the
// sum with the residual r adds w |t scale| twice, w |shift|, w |z| and w |z + r|. Altogether
//   z:  w (6 |t scale| + 3 |shift| + |r|) + 2 w^2 |mean scale|.
// For dx, with g = dz - mean_dz, off by 2 w |g| + 2 w^2 |mean_dz| for the same reasons, and
// h = t slope, off by 4 w |h| + 2 w^2 |mean slope|, the difference rounds by w (|g| + |h|), scale
// and the last product by w as much each:
//   dx: |scale| (w (5 |g| + 7 |h|) + 2 w^2 (|mean_dz| + |mean slope|)).
// A slope on the lower side is rounded, and so is the product: twice |z|, or |dz|, more.
// With weights dx = scale (dz - v (mean_dz + h)): two more roundings of h, and v in front.
// Times 1.01 for what is of higher order. The reference errs likewise with 2^-53, and each of the
// two results is rounded to the element type.

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "kernels/problem.hpp"
#include "support/worst.hpp"

namespace syncbn::test {
namespace {

const kernels::Kernels& cpu = kernels::select(Backend::cpu);
const kernels::Kernels& reference = kernels::select(Backend::reference);

struct Bounds {
  const Problem& problem;

  // Computing something of first order `first` and second order `second` in kernel and reference.
  double computing(double first, double second) const {
    const double w = unit_of_arithmetic(problem.x.dtype());
    const double u = unit(DType::f64);
    return 1.01 * ((w + u) * first + (w * w + u * u) * second) + 0x1p-140;
  }
  // Rounding both to the element type.
  double storing(double value) const {
    return 2 * (1.01 * unit(problem.x.dtype()) * std::fabs(value) + smallest(problem.x.dtype()));
  }
  double of_z(std::int64_t n, std::int64_t c, std::int64_t s, bool with_residual) const {
    const auto i = static_cast<std::size_t>(c);
    const double scaled = (problem.x.at(n, c, s) - problem.mean[i]) * problem.scale[i];
    const double residual = with_residual ? problem.residual.at(n, c, s) : 0;
    return computing(
        8 * std::fabs(scaled) + 5 * std::fabs(problem.shift[i]) + 3 * std::fabs(residual),
        2 * std::fabs(problem.mean[i] * problem.scale[i]));
  }
  double of_dx(std::int64_t n, std::int64_t c, std::int64_t s) const {
    const auto i = static_cast<std::size_t>(c);
    const double v = problem.weight_at(n, s);
    const double g = std::fabs(problem.dy.at(n, c, s)) + v * std::fabs(problem.mean_dz[i]);
    const double h = v * std::fabs((problem.x.at(n, c, s) - problem.mean[i]) * problem.slope[i]);
    return std::fabs(problem.scale[i]) *
           computing(7 * g + 9 * h, 2 * v *
                                        (std::fabs(problem.mean_dz[i]) +
                                         std::fabs(problem.mean[i] * problem.slope[i])));
  }
  // Whether kernel and reference may disagree on the sign of z.
  bool either_way(std::int64_t n, std::int64_t c, std::int64_t s) const {
    const auto i = static_cast<std::size_t>(c);
    const double z =
        (problem.x.at(n, c, s) - problem.mean[i]) * problem.scale[i] + problem.shift[i];
    return std::fabs(z) <= of_z(n, c, s, false);
  }
};

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

class ElementwiseTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  Problem problem(Shape shape, double mean = 0.5, double spread = 2) const {
    return {std::get<DType>(GetParam()), shape, std::get<Layout>(GetParam()), mean, spread};
  }
};
INSTANTIATE_TEST_SUITE_P(, ElementwiseTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

// ReLU; leaky ReLU past the cache; leaky ReLU with weights.
template <class Body>
void on_variants(Problem& problem, Body body) {
  body();
  problem.relu_slope = 0.3;
  problem.stream = true;
  body();
  problem.set_weights();
  problem.stream = false;
  body();
}

TEST_P(ElementwiseTest, NormalizeAgreesWithTheReference) {
  for (const Shape& shape : awkward_shapes()) {
    SCOPED_TRACE(to_text(shape));
    Problem of = problem(shape);
    on_variants(of, [&] {
      for (const bool relu : {false, true}) {
        for (const bool residual : {false, true}) {
          const Tensor expected = normalize(reference, of, relu, residual);
          on_every_target(
              [&] { expect_near(of, normalize(cpu, of, relu, residual), expected, residual); });
        }
      }
    });
  }
}

TEST_P(ElementwiseTest, InputGradientAgreesWithTheReference) {
  for (const Shape& shape : awkward_shapes()) {
    SCOPED_TRACE(to_text(shape));
    Problem of = problem(shape);
    on_variants(of, [&] {
      for (const auto& [relu, from_y] : {std::pair{false, false}, {true, false}, {true, true}}) {
        for (const bool residual : {false, true}) {
          const Gradients expected = input_gradient(reference, of, relu, from_y, residual);
          on_every_target([&] {
            expect_near(of, input_gradient(cpu, of, relu, from_y, residual), expected,
                        relu && !from_y, residual);
          });
        }
      }
    });
  }
}

// Few elements may escape the comparison because their mask is undecided.
TEST_P(ElementwiseTest, HardlyAnyMaskIsUndecided) {
  const Problem of = problem({40, 33, 67});
  int undecided = 0;
  for_each(of.x.shape(),
           [&](auto n, auto c, auto s) { undecided += Bounds{of}.either_way(n, c, s) ? 1 : 0; });
  EXPECT_LT(undecided, of.x.shape().size() / 1000);
}

// What relu stopped on the way forward is stopped on the way back: the same z to the bit, even
// where it is closest to 0. f32 and f64 store z as it is.
TEST_P(ElementwiseTest, TheRecomputedMaskIsTheForwards) {
  if (unit(std::get<DType>(GetParam())) != unit_of_arithmetic(std::get<DType>(GetParam()))) {
    GTEST_SKIP() << "y is rounded before it can be looked at";
  }
  for (const Shape shape : {Shape{4, 5, 300}, Shape{4, 5, 9}}) {
    Problem of = problem(shape, 0, 1);
    for_each(shape, [&](auto n, auto c, auto s) {
      const auto i = static_cast<std::size_t>(c);
      const double zero = of.mean[i] - of.shift[i] / of.scale[i];  // there z is about 0
      of.x.set(n, c, s, zero * (1 + static_cast<double>(s % 17 - 8) * epsilon(of.x.dtype())));
      of.dy.set(n, c, s, 1);
    });
    on_every_target([&] {
      const Tensor y = normalize(cpu, of, true, false);
      const Gradients out = input_gradient(cpu, of, true, false, true);
      const Sums sums = backward_sums(cpu, of, true, false);
      std::vector<double> passed(of.mean.size());
      for_each(shape, [&](auto n, auto c, auto s) {
        const double dz = y.at(n, c, s) > 0 ? 1 : 0;
        EXPECT_EQ(out.dresidual.at(n, c, s), dz);
        passed[static_cast<std::size_t>(c)] += dz;
      });
      EXPECT_EQ(sums.first, passed);
    });
  }
}

// A mean ten thousand times the spread. Given exact statistics the worst error, relative to the
// output's scale of 1, is that of a few roundings: the mean itself costs nothing.
TEST_P(ElementwiseTest, AFarMeanCostsNothing) {
  if (std::get<DType>(GetParam()) != DType::f32) {
    GTEST_SKIP() << "the 16-bit types cannot even hold such x";
  }
  for (const Shape shape : {Shape{8, 6, 100}, Shape{8, 6, 4}}) {
    const Problem of = problem(shape, 2e4 / 3, 2.0 / 3);
    on_every_target([&] {
      const Tensor y = normalize(cpu, of, false, false);
      test::Worst worst;
      for_each(shape, [&](auto n, auto c, auto s) {
        const auto i = static_cast<std::size_t>(c);
        const double exact = (of.x.at(n, c, s) - of.mean[i]) * of.scale[i] + of.shift[i];
        worst.see(std::fabs(y.at(n, c, s) - exact));
      });
      EXPECT_LE(worst.value(), 2e-6);
    });
  }
}

// The tolerance is worth something: it notices the mean taken as a single float.
TEST_P(ElementwiseTest, ToleranceNoticesARoundedMean) {
  const Problem of = problem({4, 6, 30}, 2e4 / 3, 2.0 / 3);
  if (of.x.dtype() == DType::f64) {
    GTEST_SKIP() << "computes in double";
  }
  int noticed = 0;
  for_each(of.x.shape(), [&](auto n, auto c, auto s) {
    const auto i = static_cast<std::size_t>(c);
    const double rounded = static_cast<double>(static_cast<float>(of.mean[i]));
    const double error = (rounded - of.mean[i]) * of.scale[i];
    noticed += std::fabs(error) > Bounds{of}.of_z(n, c, s, false) ? 1 : 0;
  });
  EXPECT_GT(noticed, of.x.shape().size() / 2);
}

}  // namespace
}  // namespace syncbn::test
