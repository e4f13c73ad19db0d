// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/problem.hpp"

namespace syncbn::test {
namespace {

const kernels::Kernels& cpu = kernels::select(Backend::cpu);
const kernels::Kernels& reference = kernels::select(Backend::reference);

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// Channel 0 has a NaN, 1 an infinity, 2 a negative one, 3 both, 4 none; at the beginning, in the
// middle and at the end, where vectors are cut.
constexpr Shape shapes[] = {{3, 5, 37}, {3, 5, 1}, {40, 5, 3}};

class SpecialValuesTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  Problem problem(Shape shape) const {
    Problem of(std::get<DType>(GetParam()), shape, std::get<Layout>(GetParam()));
    of.x.set(0, 0, 0, nan);
    of.x.set(1, 1, shape.s / 2, infinity);
    of.x.set(2, 2, shape.s - 1, -infinity);
    of.x.set(0, 3, shape.s - 1, infinity);
    of.x.set(1, 3, 0, -infinity);
    return of;
  }
};
INSTANTIATE_TEST_SUITE_P(, SpecialValuesTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

// NaN to NaN, an infinity to the same, anything else to something finite.
void expect_same_kind(double got, double expected) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(got)) << got;
  } else if (std::isinf(expected)) {
    EXPECT_EQ(got, expected);
  } else {
    EXPECT_TRUE(std::isfinite(got)) << got;
  }
}

void expect_same_kind(const Sums& got, const Sums& expected) {
  for (std::size_t c = 0; c < expected.first.size(); ++c) {
    SCOPED_TRACE(c);
    expect_same_kind(got.first[c], expected.first[c]);
    expect_same_kind(got.second[c], expected.second[c]);
  }
}

void expect_same_kind(const Tensor& got, const Tensor& expected) {
  for_each(got.shape(), [&](auto n, auto c, auto s) {
    SCOPED_TRACE(testing::Message() << "at " << n << ", " << c << ", " << s);
    expect_same_kind(got.at(n, c, s), expected.at(n, c, s));
  });
}

TEST_P(SpecialValuesTest, SpoilTheSumsOfTheirChannelOnly) {
  for (const Shape& shape : shapes) {
    const Problem of = problem(shape);
    on_every_target([&] {
      const Sums sums = forward_sums(cpu, of);
      expect_same_kind(sums, forward_sums(reference, of));
      EXPECT_TRUE(std::isnan(sums.first[0]));
      EXPECT_EQ(sums.first[1], infinity);
      EXPECT_EQ(sums.first[2], -infinity);
      EXPECT_TRUE(std::isnan(sums.first[3]));
      EXPECT_TRUE(std::isfinite(sums.first[4]));
      EXPECT_EQ(sums.second[2], infinity);
      for (const bool relu : {false, true}) {
        expect_same_kind(backward_sums(cpu, of, relu, false),
                         backward_sums(reference, of, relu, false));
      }
    });
  }
}

TEST_P(SpecialValuesTest, PassThroughNormalize) {
  for (const Shape& shape : shapes) {
    const Problem of = problem(shape);
    on_every_target([&] {
      for (const bool relu : {false, true}) {
        const Tensor y = normalize(cpu, of, relu, false);
        expect_same_kind(y, normalize(reference, of, relu, false));
        EXPECT_TRUE(std::isnan(y.at(0, 0, 0)));
        EXPECT_EQ(y.at(1, 1, shape.s / 2), infinity);
        EXPECT_EQ(y.at(2, 2, shape.s - 1), relu ? 0 : -infinity);
      }
    });
  }
}

TEST_P(SpecialValuesTest, PassThroughTheInputGradient) {
  for (const Shape& shape : shapes) {
    Problem of = problem(shape);
    of.dy.set(2, 4, shape.s - 1, nan);
    of.x.set(2, 4, shape.s - 1, 1e4);  // far on the side that passes
    of.dy.set(0, 4, 0, infinity);
    of.x.set(0, 4, 0, -1e4);  // far on the side that is stopped
    of.scale[4] = 1;
    on_every_target([&] {
      for (const bool relu : {false, true}) {
        const Gradients out = input_gradient(cpu, of, relu, false, true);
        const Gradients expected = input_gradient(reference, of, relu, false, true);
        expect_same_kind(out.dx, expected.dx);
        expect_same_kind(out.dresidual, expected.dresidual);
        EXPECT_EQ(out.dresidual.at(0, 0, 0), of.dy.at(0, 0, 0));  // at a NaN of x
        EXPECT_TRUE(std::isnan(out.dresidual.at(2, 4, shape.s - 1)));
        EXPECT_EQ(out.dresidual.at(0, 4, 0), relu ? 0 : infinity);
      }
    });
  }
}

TEST_P(SpecialValuesTest, LeaveAbsentPositionsZero) {
  Problem of(std::get<DType>(GetParam()), {3, 5, 37}, std::get<Layout>(GetParam()));
  of.set_weights();
  of.mean[1] = of.mean_dz[2] = of.grad_slope[3] = nan;
  of.mean_dz[4] = infinity;
  on_every_target([&] {
    const Tensor y = normalize(cpu, of, true, false);
    const Gradients out = input_gradient(cpu, of, true, false, true);
    for_each(of.x.shape(), [&](auto n, auto c, auto s) {
      if (of.weight_at(n, s) == 0) {
        ASSERT_EQ(y.at(n, c, s), 0);
        ASSERT_EQ(out.dx.at(n, c, s), 0);
        ASSERT_EQ(out.dresidual.at(n, c, s), 0);
      }
    });
  });
}

TEST_P(SpecialValuesTest, ANaNMeanSpoilsItsChannelOnly) {
  Problem of(std::get<DType>(GetParam()), {3, 5, 37}, std::get<Layout>(GetParam()));
  of.mean[2] = nan;
  of.mean[3] = infinity;
  on_every_target([&] {
    expect_same_kind(normalize(cpu, of, false, false), normalize(reference, of, false, false));
    expect_same_kind(backward_sums(cpu, of, false, false),
                     backward_sums(reference, of, false, false));
  });
}

TEST_P(SpecialValuesTest, AMaskOfNaNLetsPass) {
  Problem of(std::get<DType>(GetParam()), {3, 5, 37}, std::get<Layout>(GetParam()));
  of.y.set(1, 1, 36, nan);
  on_every_target([&] {
    const Gradients out = input_gradient(cpu, of, true, true, true);
    EXPECT_EQ(out.dresidual.at(1, 1, 36), of.dy.at(1, 1, 36));
  });
}

}  // namespace
}  // namespace syncbn::test
