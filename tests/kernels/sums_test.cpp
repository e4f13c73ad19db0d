// SPDX-License-Identifier: Apache-2.0

// Both kernels that sum, against the reference.
//
// A term computed in double has a relative error of at most 4 u (u = 2^-53): the difference has u,
// its square 2 u from it and u of its own, one more for second order. Summing n terms in any order
// adds at most (n - 1) u times the sum of their magnitudes (Higham, Accuracy and Stability, 4.2).
// The reference has 11 bits more and rounds once at the end. With a weight each
// term is rounded once more. Together: (n + 5) u sum|terms|.
//
// Of 16-bit types, terms are computed and up to 8 of them added in float: rounded 3 times, with a
// weight, by 8 additions, and by 2 which bring sums together. That is 13 * 2^-24 sum|terms| more.

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/problem.hpp"

namespace syncbn::test {
namespace {

const kernels::Kernels& cpu = kernels::select(Backend::cpu);
const kernels::Kernels& reference = kernels::select(Backend::reference);

class SumsTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  template <class Body>
  void on_shapes(Body body) {
    for (const Shape& shape : awkward_shapes()) {
      SCOPED_TRACE(to_text(shape));
      body(Problem(std::get<DType>(GetParam()), shape, std::get<Layout>(GetParam())));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, SumsTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

// Per channel, how far each of the sums may be off.
Sums no_error(const Problem& problem) {
  const auto channels = static_cast<std::size_t>(problem.x.shape().c);
  return {std::vector<double>(channels), std::vector<double>(channels)};
}

Sums rounding(Sums magnitudes, const Problem& problem) {
  const bool in_float = size_of(problem.x.dtype()) == 2;
  const auto n = static_cast<double>(problem.x.shape().per_channel());
  const double relative = (n + 5) * 0x1p-53 + (in_float ? 13 * 0x1p-24 : 0);
  for (auto* values : {&magnitudes.first, &magnitudes.second}) {
    for (double& value : *values) {
      value *= relative;
    }
  }
  return magnitudes;
}

Sums forward_tolerance(const Problem& problem) {
  Sums magnitudes = no_error(problem);
  for_each(problem.x.shape(), [&](auto n, auto c, auto s) {
    const auto i = static_cast<std::size_t>(c);
    const double v = problem.weight_at(n, s);
    const double d = v == 0 ? 0 : problem.x.at(n, c, s) - static_cast<double>(problem.pivot[i]);
    magnitudes.first[i] += v * std::fabs(d);
    magnitudes.second[i] += v * d * d;
  });
  return rounding(magnitudes, problem);
}

// Where the recomputed z is as good as 0, kernel and reference may disagree on whether dy passes:
// z's error is below 6 u |x - mean| |scale| + 3 u |shift| + 2 u^2 |mean| |scale|, see
// elementwise_test.cpp.
bool either_way(const Problem& problem, std::int64_t c, double x) {
  const auto i = static_cast<std::size_t>(c);
  const double u = unit_of_arithmetic(problem.x.dtype());
  const double scaled = (x - problem.mean[i]) * problem.scale[i];
  const double error = 6 * std::fabs(scaled) + 3 * std::fabs(problem.shift[i]) +
                       2 * u * std::fabs(problem.mean[i] * problem.scale[i]);
  return std::fabs(scaled + problem.shift[i]) <= 1.01 * u * error;
}

Sums backward_tolerance(const Problem& problem, bool relu, bool from_y) {
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
  Sums tolerance = rounding(magnitudes, problem);
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

TEST_P(SumsTest, ForwardAgreesWithTheReference) {
  on_shapes([](Problem problem) {
    for (const bool weighted : {false, true}) {
      if (weighted) {
        problem.set_weights();
      }
      const Sums expected = forward_sums(reference, problem);
      const Sums tolerance = forward_tolerance(problem);
      on_every_target([&] { expect_near(forward_sums(cpu, problem), expected, tolerance); });
    }
  });
}

TEST_P(SumsTest, BackwardAgreesWithTheReference) {
  on_shapes([](Problem problem) {
    for (const bool weighted : {false, true}) {
      if (weighted) {
        problem.set_weights();
      }
      for (const auto& [relu, from_y] : {std::pair{false, false}, {true, false}, {true, true}}) {
        const Sums expected = backward_sums(reference, problem, relu, from_y);
        const Sums tolerance = backward_tolerance(problem, relu, from_y);
        on_every_target(
            [&] { expect_near(backward_sums(cpu, problem, relu, from_y), expected, tolerance); });
      }
    }
  });
}

// y is not read without relu: there may be none.
TEST_P(SumsTest, WithoutReluTheMaskDoesNotMatter) {
  const Problem problem(std::get<DType>(GetParam()), {3, 5, 40}, std::get<Layout>(GetParam()));
  const Sums with = backward_sums(cpu, problem, false, true);
  const Sums without = backward_sums(cpu, problem, false, false);
  EXPECT_EQ(with.first, without.first);
  EXPECT_EQ(with.second, without.second);
}

// The tolerance is worth something: it notices a single element left out.
TEST_P(SumsTest, ToleranceNoticesAMissingElement) {
  Problem problem(std::get<DType>(GetParam()), {40, 33, 67}, std::get<Layout>(GetParam()));
  const Sums tolerance = forward_tolerance(problem);
  const Sums whole = forward_sums(cpu, problem);
  problem.x.set(7, 3, 66, static_cast<double>(problem.pivot[3]));  // a difference of 0
  const Sums without = forward_sums(cpu, problem);
  const double times = size_of(problem.x.dtype()) == 2 ? 10 : 100;
  EXPECT_GT(std::fabs(whole.first[3] - without.first[3]), times * tolerance.first[3]);
  EXPECT_GT(std::fabs(whole.second[3] - without.second[3]), times * tolerance.second[3]);
}

/// Elements of channel 0 whose terms are added to that of its first element in float, and among
/// them those of the same lane. 2^24 + 1 is 2^24 in float; 2^24 + (1 + 1) is not, so two ones are
/// lost together only if none is added to the other before.
struct FloatSum {
  std::int64_t terms = 0;
  std::int64_t of_lane = 0;
};
FloatSum float_sum_of_first(const Shape& shape, Layout layout) {
  Problem problem(DType::bf16, shape, layout);
  const std::int64_t size = shape.n * shape.s;
  const auto set = [&](std::int64_t i, double value) {
    problem.x.set(i / shape.s, 0, i % shape.s, value);
  };
  std::ranges::fill(problem.pivot, 0.0F);
  for (std::int64_t i = 0; i < size; ++i) {
    set(i, i == 0 ? 0x1p24 : 0);
  }
  const auto lost = [&](std::int64_t a, std::int64_t b) {
    set(a, 1);
    set(b, 1);
    const bool is_lost = forward_sums(cpu, problem).first[0] == 0x1p24;
    set(a, 0);
    set(b, 0);
    return is_lost;
  };
  std::vector<std::int64_t> together = {};
  for (std::int64_t i = 1; i < size; ++i) {
    if (lost(i, i)) {
      together.push_back(i);
    }
  }
  FloatSum found{.terms = 1 + static_cast<std::int64_t>(together.size()), .of_lane = 1};
  for (const std::int64_t a : together) {
    found.of_lane += std::ranges::all_of(together, [&](auto b) { return lost(a, b); }) ? 1 : 0;
  }
  return found;
}

// Planes of whole runs and a tail, fewer rows than strands, columns.
TEST(FloatSumsTest, AreOfEightTermsALaneAndFourLanesAtMost) {
  for (const auto& [shape, layout] : {std::pair{Shape{4, 2, 79}, Layout::channels_first},
                                      std::pair{Shape{4, 1, 196}, Layout::channels_first},
                                      std::pair{Shape{5, 2, 65}, Layout::channels_first},
                                      std::pair{Shape{1, 2, 523}, Layout::channels_first},
                                      std::pair{Shape{40, 300, 2}, Layout::channels_last}}) {
    SCOPED_TRACE(to_text(shape));
    on_every_target([&, shape = shape, layout = layout] {
      const FloatSum found = float_sum_of_first(shape, layout);
      EXPECT_LE(found.of_lane, 8);
      EXPECT_LE(found.terms, 32);
      EXPECT_GT(found.terms, 1);
    });
  }
}

}  // namespace
}  // namespace syncbn::test
