// SPDX-License-Identifier: Apache-2.0

// Both kernels that sum, against the reference.
//
// Of 16-bit types, terms are computed and up to 8 of them added in float: rounded 3 times, with a
// weight, by 8 additions, and by 2 which bring sums together. That is 13 * 2^-24 sum|terms| more
// than tolerance.cpp finds for doubles.

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/problem.hpp"
#include "kernels/tolerance.hpp"

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

Sums forward_tolerance(const Problem& problem) {
  return forward_tolerance(problem, float_roundings_on_cpu(problem.x.dtype()));
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
        const Sums tolerance =
            backward_tolerance(problem, relu, from_y, float_roundings_on_cpu(problem.x.dtype()));
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
  problem.x.set(7, 3, 66, problem.pivot[3]);  // a difference of 0
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
  std::ranges::fill(problem.pivot, 0.0);
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
