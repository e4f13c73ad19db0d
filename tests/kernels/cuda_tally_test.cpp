// SPDX-License-Identifier: Apache-2.0

// The device's tallies, on the host: in whatever order threads and blocks come, the integers are
// those of the CPU's sums in fixed point, and the magnitudes those of the CPU.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/exact_terms.hpp"
#include "kernels/cuda/weight_count.hpp"
#include "kernels/cuda_on_host.hpp"
#include "kernels/problem.hpp"
#include "kernels/tallies.hpp"

namespace syncbn::test {
namespace {

namespace cuda = kernels::cuda;

const kernels::Kernels& cpu = kernels::select(Backend::cpu);

constexpr int first_window = 10;
constexpr int second_window = 14;

/// Tallies of which every third channel is not wanted.
Tallies some_wanted(const Problem& problem) {
  Tallies tallies(problem.x.shape().c, first_window, second_window);
  for (std::int64_t c = 2; c < tallies.channels(); c += 3) {
    tallies.to().wanted[c] = 0;
  }
  return tallies;
}

void expect_equal(const channels::Integer& a, const channels::Integer& b) {
  EXPECT_EQ(channels::carried(a).high, channels::carried(b).high);
  EXPECT_EQ(channels::carried(a).low, channels::carried(b).low);
}

void compare(const Tallies& got, const Tallies& expected, bool backward) {
  for (std::int64_t c = 0; c < got.channels(); ++c) {
    SCOPED_TRACE(testing::Message() << "channel " << c);
    const channels::OwnTally a = got.of(c, backward);
    const channels::OwnTally b = expected.of(c, backward);
    if (got.to().wanted[c] == 0) {
      EXPECT_EQ(got.magnitude(0, c), 0);
      EXPECT_EQ(got.magnitude(1, c), 0);
      EXPECT_EQ(a.largest, 0);
      continue;
    }
    EXPECT_EQ(a.outside, b.outside);
    if (!a.outside) {
      expect_equal(a.first.coarse, b.first.coarse);
      expect_equal(a.second.coarse, b.second.coarse);
      expect_equal(a.first.fine, b.first.fine);
      expect_equal(a.second.fine, b.second.fine);
      EXPECT_EQ(a.largest, b.largest);
    }
    for (const int field : {0, 1}) {
      EXPECT_EQ(got.special(field, c), expected.special(field, c));
      EXPECT_EQ(got.magnitude(field, c), expected.magnitude(field, c));
    }
  }
}

void check_forward(const Problem& problem, const kernels::Run& run) {
  for (const Order order : {Order::forward, Order::backward}) {
    const Tallies got = some_wanted(problem), expected = some_wanted(problem);
    const kernels::ForwardSums sums{problem.x.view(), problem.weights(), problem.pivot.data(),
                                    nullptr};
    cpu.forward_in_fixed_point(sums, problem.channels(), expected.to(), run);
    cpu.forward_magnitudes(sums, problem.channels(), expected.to(), run);
    cuda::run_tally(sums, got.to(), OnHost{order});
    cuda::run_tally_magnitudes(sums, got.to(), OnHost{order});
    compare(got, expected, false);
  }
}

void check_backward(const Problem& problem, const kernels::Run& run, bool relu) {
  for (const Order order : {Order::forward, Order::backward}) {
    const Tallies got = some_wanted(problem), expected = some_wanted(problem);
    const kernels::BackwardSums sums{problem.upstream(relu, relu), nullptr};
    cpu.backward_in_fixed_point(sums, problem.channels(), expected.to(), run);
    cpu.backward_magnitudes(sums, problem.channels(), expected.to(), run);
    cuda::run_tally(sums, got.to(), OnHost{order});
    cuda::run_tally_magnitudes(sums, got.to(), OnHost{order});
    compare(got, expected, true);
  }
}

class CudaTallyTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  template <class Body>
  void for_problems(Body body) {
    const auto [dtype, layout] = GetParam();
    for (const Shape& shape : awkward_shapes()) {
      for (const bool weighted : {false, true}) {
        SCOPED_TRACE(to_text(shape) + (weighted ? ", weighted" : ""));
        Problem problem(dtype, shape, layout);
        if (weighted) {
          problem.set_weights();
        }
        body(problem);
      }
    }
  }

  kernels::Scratch scratch_;
  kernels::Run run_{.scratch = scratch_};
};

TEST_P(CudaTallyTest, DifferencesAreTheCpus) {
  for_problems([&](const Problem& problem) { check_forward(problem, run_); });
}

TEST_P(CudaTallyTest, GradientsAreTheCpus) {
  for_problems([&](const Problem& problem) {
    check_backward(problem, run_, false);
    check_backward(problem, run_, true);
  });
}

TEST_P(CudaTallyTest, SeesTermsOutsideOfTheirWindows) {
  const auto [dtype, layout] = GetParam();
  for (const double value : {30.0, 200.0, 2000.0}) {
    Problem problem(dtype, {3, 5, 40}, layout);
    problem.x.set(1, 3, 7, value);
    problem.dy.set(1, 1, 7, -value);
    check_forward(problem, run_);
    check_backward(problem, run_, false);
  }
}

TEST(CudaTally, WeightsAreCountedAsByTheCpu) {
  for (const int count : {0, 1, 255, 5000, 2'200'000}) {  // none, to more than a full grid
    std::vector<float> weight(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < weight.size(); ++i) {
      weight[i] = i % 11 == 0
                      ? 0.0F
                      : std::ldexp(1 + static_cast<float>(i % 7), static_cast<int>(i % 90) - 45);
    }
    channels::CountLimbs got{};
    cuda::run_count_weights({weight.data(), count, got.data()}, OnHost{});
    channels::carry(got.data());
    EXPECT_EQ(got, channels::count_weights(weight.data(), count)) << count << " weights";
  }
}

INSTANTIATE_TEST_SUITE_P(TypesAndLayouts, CudaTallyTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& test) { return name_of(test.param); });

}  // namespace
}  // namespace syncbn::test
