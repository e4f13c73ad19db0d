// SPDX-License-Identifier: Apache-2.0

// Both kernels that write an element for every element, against the reference.

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "kernels/problem.hpp"
#include "kernels/tolerance.hpp"
#include "support/worst.hpp"

namespace syncbn::test {
namespace {

const kernels::Kernels& cpu = kernels::select(Backend::cpu);
const kernels::Kernels& reference = kernels::select(Backend::reference);

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
