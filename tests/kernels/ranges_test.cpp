// SPDX-License-Identifier: Apache-2.0

// Neither how channels are cut into ranges nor whether a tensor is written past the cache changes a
// bit, nor do channels touch each other; and what is recovered from the output is what was put in.

#include <algorithm>
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "kernels/cpu/partition.hpp"
#include "kernels/problem.hpp"

namespace syncbn::test {
namespace {

const kernels::Kernels& cpu = kernels::select(Backend::cpu);
const kernels::Kernels& reference = kernels::select(Backend::reference);
kernels::Scratch scratch;

// Shapes of more than one part, or with planes that end within a cache line.
constexpr Shape shapes[] = {{0, 3, 5},   {61, 37, 120}, {2, 37, 196}, {9, 70, 49},
                            {5, 3, 999}, {300, 600, 1}, {20, 600, 4}, {3, 4, 3136}};

class RangesTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  template <class Body>
  void on_shapes(Body body) {
    for (const Shape& shape : shapes) {
      SCOPED_TRACE(to_text(shape));
      Problem problem(std::get<DType>(GetParam()), shape, std::get<Layout>(GetParam()));
      problem.relu_slope = 0.3;
      for (const bool weighted : {false, true}) {
        if (weighted) {
          problem.set_weights();
        }
        on_every_target([&] { body(problem); });
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, RangesTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

std::int64_t ranges_of(const Problem& problem) {
  return std::min<std::int64_t>(3, problem.x.shape().c);
}

// As many as the kernels promise the same sums for.
std::int64_t ranges_of_sums(const Problem& problem) {
  using kernels::cpu::Columns;
  const kernels::Extents extents = kernels::extents_of(problem.x.shape(), problem.x.layout());
  const bool abreast =
      extents.size() > 0 && !kernels::cpu::has_long_planes(extents) &&
      Columns(extents, problem.channels(), kernels::cpu::Purpose::sums).abreast() > 1;
  return abreast ? 1 : ranges_of(problem);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const auto bytes = static_cast<std::size_t>(a.shape().size()) * size_of(a.dtype());
  return bytes == 0 || std::memcmp(a.view().data(), b.view().data(), bytes) == 0;
}

TEST_P(RangesTest, LeaveSumsAsTheyAre) {
  on_shapes([](Problem problem) {
    const Sums forward = forward_sums(cpu, problem);
    const Sums backward = backward_sums(cpu, problem, true, false);
    problem.ranges = ranges_of_sums(problem);
    EXPECT_EQ(forward_sums(cpu, problem).first, forward.first);
    EXPECT_EQ(forward_sums(cpu, problem).second, forward.second);
    EXPECT_EQ(backward_sums(cpu, problem, true, false).first, backward.first);
    EXPECT_EQ(backward_sums(cpu, problem, true, false).second, backward.second);
  });
}

TEST_P(RangesTest, AndStreamsLeaveTensorsAsTheyAre) {
  on_shapes([](Problem problem) {
    const Tensor y = normalize(cpu, problem, true, true);
    const Gradients gradients = input_gradient(cpu, problem, true, false, true);
    for (const std::int64_t ranges : {std::int64_t{1}, ranges_of(problem)}) {
      for (const bool stream : {false, true}) {
        problem.ranges = ranges;
        problem.stream = stream;
        EXPECT_TRUE(same_bits(normalize(cpu, problem, true, true), y));
        const Gradients again = input_gradient(cpu, problem, true, false, true);
        EXPECT_TRUE(same_bits(again.dx, gradients.dx));
        EXPECT_TRUE(same_bits(again.dresidual, gradients.dresidual));
      }
    }
  });
}

// One range only: what lies behind it is not written over, as ranges that follow would.
TEST_P(RangesTest, LeaveOtherChannelsAlone) {
  on_shapes([](Problem problem) {
    const std::int64_t channels = problem.x.shape().c;
    const kernels::ChannelRange middle{channels / 3, (2 * channels + 2) / 3};
    const Tensor y = normalize(cpu, problem, true, true);
    const Gradients gradients = input_gradient(cpu, problem, true, false, true);
    for (const bool stream : {false, true}) {
      const kernels::Run run{.scratch = scratch, .stream = stream};
      Tensor got = problem.like_x(), dx = problem.like_x(), dresidual = problem.like_x();
      for (Tensor* tensor : {&got, &dx, &dresidual}) {
        for_each(tensor->shape(), [&](auto n, auto c, auto s) { tensor->set(n, c, s, 7); });
      }
      cpu.normalize({.x = problem.x.view(),
                     .weight = problem.weights(),
                     .mean = problem.mean.data(),
                     .scale = problem.scale.data(),
                     .shift = problem.shift.data(),
                     .residual = problem.residual.view().data(),
                     .negative_slope = problem.relu_slope,
                     .y = got.view().data()},
                    middle, run);
      cpu.input_gradient({problem.upstream(true, false), problem.mean_dz.data(),
                          problem.grad_slope.data(), dx.view().data(), dresidual.view().data()},
                         middle, run);
      for_each(problem.x.shape(), [&](auto n, auto c, auto s) {
        const bool inside = c >= middle.begin && c < middle.end;
        ASSERT_EQ(got.at(n, c, s), inside ? y.at(n, c, s) : 7);
        ASSERT_EQ(dx.at(n, c, s), inside ? gradients.dx.at(n, c, s) : 7);
        ASSERT_EQ(dresidual.at(n, c, s), inside ? gradients.dresidual.at(n, c, s) : 7);
      });
    }
  });
}

// Steps read beyond the end of a plane, and columns of several channels lie in one vector.
TEST_P(RangesTest, ANaNStaysInItsChannel) {
  on_shapes([](Problem problem) {
    const Sums forward = forward_sums(cpu, problem);
    const Sums backward = backward_sums(cpu, problem, true, false);
    const Tensor y = normalize(cpu, problem, true, true);
    const Tensor dx = input_gradient(cpu, problem, true, false, false).dx;
    for_each(problem.x.shape(), [&](auto n, auto c, auto s) {
      if (c % 2 == 1) {
        problem.x.set(n, c, s, std::nan(""));
        problem.dy.set(n, c, s, std::nan(""));
      }
    });
    const Sums forward_now = forward_sums(cpu, problem);
    const Sums backward_now = backward_sums(cpu, problem, true, false);
    for (std::size_t c = 0; c < forward.first.size(); c += 2) {
      ASSERT_EQ(forward_now.first[c], forward.first[c]);
      ASSERT_EQ(forward_now.second[c], forward.second[c]);
      ASSERT_EQ(backward_now.first[c], backward.first[c]);
      ASSERT_EQ(backward_now.second[c], backward.second[c]);
    }
    const Tensor y_now = normalize(cpu, problem, true, true);
    const Tensor dx_now = input_gradient(cpu, problem, true, false, false).dx;
    for_each(problem.x.shape(), [&](auto n, auto c, auto s) {
      if (c % 2 == 0) {
        ASSERT_EQ(y_now.at(n, c, s), y.at(n, c, s));
        ASSERT_EQ(dx_now.at(n, c, s), dx.at(n, c, s));
      }
    });
  });
}

// y, rounded to its type, is z / 0.3 at most when it is taken back: relative to |z| that rounds
// twice. The difference to shift and the product with 1 / scale round three times more: x - mean is
// off by w (5 |t| + 3 |shift / scale|) in the kernel, and nothing to speak of in the reference.
TEST_P(RangesTest, TheInputIsRecoveredFromTheOutput) {
  on_shapes([](const Problem& problem) {
    const Tensor y = normalize(reference, problem, true, false);
    const Sums got = backward_sums_from_output(cpu, problem, y);
    const Sums expected = backward_sums_from_output(reference, problem, y);
    const Tensor dx = input_gradient_from_output(cpu, problem, y);
    const Tensor expected_dx = input_gradient_from_output(reference, problem, y);
    const double w = unit_of_arithmetic(problem.x.dtype());
    const double n = static_cast<double>(problem.x.shape().per_channel());
    std::vector<double> sum_tolerance(problem.mean.size(), 0x1p-140);
    std::vector<double> product_tolerance(problem.mean.size(), 0x1p-140);
    for_each(problem.x.shape(), [&](auto at, auto c, auto s) {
      const double v = problem.weight_at(at, s);
      if (v == 0) {
        ASSERT_EQ(dx.at(at, c, s), 0);
        return;
      }
      const auto i = static_cast<std::size_t>(c);
      const double value = y.at(at, c, s);
      const double z = value <= 0 ? value / problem.relu_slope : value;
      const double t = std::fabs((z - problem.shift[i]) / problem.scale[i]);
      const double of_t = 1.01 * w * (5 * t + 3 * std::fabs(problem.shift[i] / problem.scale[i]));
      const double dy = std::fabs(problem.dy.at(at, c, s));
      sum_tolerance[i] += (2 * w + (n + 5) * 0x1p-53) * dy;
      product_tolerance[i] += dy * (of_t + (2 * w + (n + 5) * 0x1p-53) * t);

      const double grad_slope = std::fabs(problem.grad_slope[i]);
      const double e = 2 * unit(problem.x.dtype());
      const double computed =
          std::fabs(problem.scale[i]) *
          (1.01 * w * (7 * (dy + v * std::fabs(problem.mean_dz[i])) + 9 * v * t * grad_slope) +
           v * grad_slope * of_t);
      ASSERT_NEAR(dx.at(at, c, s), expected_dx.at(at, c, s),
                  computed + 1.01 * e * std::fabs(expected_dx.at(at, c, s)) +
                      2 * smallest(problem.x.dtype()))
          << at << ", " << c << ", " << s;
    });
    for (std::size_t c = 0; c < problem.mean.size(); ++c) {
      ASSERT_NEAR(got.first[c], expected.first[c], sum_tolerance[c]) << c;
      ASSERT_NEAR(got.second[c], expected.second[c], product_tolerance[c]) << c;
    }
  });
}

// There is something to test.
TEST(RangesOfChannels, AreSeveral) {
  for (const Shape& shape : {Shape{61, 37, 120}, Shape{9, 70, 49}, Shape{3, 4, 3136}}) {
    EXPECT_GT(ranges_of_sums({DType::f32, shape, Layout::channels_first}), 1);
  }
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    EXPECT_GT(ranges_of_sums({DType::f32, {300, 600, 1}, layout}), 1);
  }
}

}  // namespace
}  // namespace syncbn::test
