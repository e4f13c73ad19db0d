// SPDX-License-Identifier: Apache-2.0

// The oracle itself, on numbers that can be checked in the head.

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/kernels.hpp"

namespace syncbn::kernels {
namespace {

using testing::ElementsAre;

const Kernels& reference = select(Backend::reference);
constexpr ChannelRange both{0, 2};
Scratch scratch;

// Two samples of two channels at three positions: channel 0 is 1..6, channel 1 is ten times that.
constexpr Shape shape{2, 2, 3};
const std::vector<float> first = {1, 2, 3, 10, 20, 30, 4, 5, 6, 40, 50, 60};
const std::vector<float> last = {1, 10, 2, 20, 3, 30, 4, 40, 5, 50, 6, 60};

const std::vector<double> mean = {3, 30};
const std::vector<double> scale = {2, -0.5};
const std::vector<double> shift = {1, 0};

ConstTensorView view(const std::vector<float>& values, Layout layout) {
  return {values.data(), shape, layout};
}

TEST(ReferenceTest, SumsAboutThePivot) {
  const std::vector<double> pivot = {3, 40};
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    std::vector<double> sums(4);
    const auto& x = layout == Layout::channels_first ? first : last;
    reference.forward_sums({view(x, layout), nullptr, pivot.data(), sums.data()}, both, {scratch});
    EXPECT_THAT(sums, ElementsAre(-2 - 1 + 0 + 1 + 2 + 3, -30 - 20 - 10 + 0 + 10 + 20,
                                  4 + 1 + 0 + 1 + 4 + 9, 900 + 400 + 100 + 0 + 100 + 400));
  }
}

TEST(ReferenceTest, Normalizes) {
  std::vector<float> y(12);
  Normalize arguments{.x = view(first, Layout::channels_first),
                      .weight = nullptr,
                      .mean = mean.data(),
                      .scale = scale.data(),
                      .shift = shift.data(),
                      .residual = nullptr,
                      .negative_slope = 1,
                      .y = y.data()};
  reference.normalize(arguments, both, {scratch});
  EXPECT_THAT(y, ElementsAre(-3, -1, 1, 10, 5, 0, 3, 5, 7, -5, -10, -15));
  arguments.negative_slope = 0;
  reference.normalize(arguments, both, {scratch});
  EXPECT_THAT(y, ElementsAre(0, 0, 1, 10, 5, 0, 3, 5, 7, 0, 0, 0));
  const std::vector<float> residual = {0, 2, 0, 0, 0, -1, 0, 0, 0, 0, 0, 20};
  arguments.residual = residual.data();
  reference.normalize(arguments, both, {scratch});
  EXPECT_THAT(y, ElementsAre(0, 1, 1, 10, 5, 0, 3, 5, 7, 0, 0, 5));
  arguments.negative_slope = 0.25;
  reference.normalize(arguments, both, {scratch});
  EXPECT_THAT(y, ElementsAre(-0.75, 1, 1, 10, 5, -0.25, 3, 5, 7, -1.25, -2.5, 5));
}

TEST(ReferenceTest, SumsGradientsThatReluLetPass) {
  const std::vector<float> dy = {1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2};
  const std::vector<float> y = {1, 0, -1, 1, 0, -1, 0, 1, 0, 0, 1, 0};
  std::vector<double> sums(4);
  Upstream upstream{.data = view(first, Layout::channels_first),
                    .source = Source::input,
                    .weight = nullptr,
                    .dy = dy.data(),
                    .y = nullptr,
                    .mean = mean.data(),
                    .scale = scale.data(),
                    .shift = shift.data(),
                    .negative_slope = 1};
  reference.backward_sums({upstream, sums.data()}, both, {scratch});
  EXPECT_THAT(sums, ElementsAre(9, 9, -2 - 1 + 0 + 2 + 4 + 6, -20 - 10 + 0 + 20 + 40 + 60));

  // Normalized: -3 -1 1 3 5 7 and 10 5 0 -5 -10 -15, so that 1 2 2 2 and 1 1 pass.
  upstream.negative_slope = 0;
  reference.backward_sums({upstream, sums.data()}, both, {scratch});
  EXPECT_THAT(sums, ElementsAre(7, 2, 0 + 2 + 4 + 6, -20 - 10));

  upstream.y = y.data();
  reference.backward_sums({upstream, sums.data()}, both, {scratch});
  EXPECT_THAT(sums, ElementsAre(1 + 2, 1 + 2, -2 + 4, -20 + 40));
}

TEST(ReferenceTest, GivesTheInputGradient) {
  const std::vector<float> dy = {1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2};
  const std::vector<double> mean_dz = {1, 0};
  const std::vector<double> grad_slope = {0.5, 0.1};
  std::vector<float> dx(12), dresidual(12);
  reference.input_gradient({{.data = view(first, Layout::channels_first),
                             .source = Source::input,
                             .weight = nullptr,
                             .dy = dy.data(),
                             .y = nullptr,
                             .mean = mean.data(),
                             .scale = scale.data(),
                             .shift = shift.data(),
                             .negative_slope = 0},
                            mean_dz.data(),
                            grad_slope.data(),
                            dx.data(),
                            dresidual.data()},
                           both, {scratch});
  EXPECT_THAT(dresidual, ElementsAre(0, 0, 1, 1, 1, 0, 2, 2, 2, 0, 0, 0));
  // Channel 0: 2 ((dz - 1) - (x - 3) / 2); channel 1: -(dz - (x - 30) / 10) / 2.
  EXPECT_THAT(dx, ElementsAre(0, -1, 0, -1.5, -1, 0, 1, 0, -1, 0.5, 1, 1.5));
}

// With y = -1 8 2 and a slope of 0.5, z = -2 8 2; scale 2 and shift 1 give x - mean = -1.5 3.5 0.5.
TEST(ReferenceTest, RecoversTheInputFromTheOutput) {
  const std::vector<float> y = {-1, 8, 2};
  const std::vector<float> dy = {4, 1, 1};
  std::vector<double> sums(2);
  const Upstream upstream{.data = {y.data(), {1, 1, 3}},
                          .source = Source::output,
                          .weight = nullptr,
                          .dy = dy.data(),
                          .y = nullptr,
                          .mean = mean.data(),
                          .scale = scale.data(),
                          .shift = shift.data(),
                          .negative_slope = 0.5};
  reference.backward_sums({upstream, sums.data()}, {0, 1}, {scratch});
  EXPECT_THAT(sums, ElementsAre(2 + 1 + 1, 2 * -1.5 + 3.5 + 0.5));
}

// The second sample's last position counts three times, the first sample's first is not there.
TEST(ReferenceTest, WeightsPositions) {
  const std::vector<float> weight = {0, 1, 1, 1, 1, 3};
  const std::vector<double> pivot = {3, 40};
  std::vector<double> sums(4);
  reference.forward_sums(
      {view(first, Layout::channels_first), weight.data(), pivot.data(), sums.data()}, both,
      {scratch});
  EXPECT_THAT(sums, ElementsAre(-1 + 0 + 1 + 2 + 3 * 3, -20 - 10 + 0 + 10 + 3 * 20,
                                1 + 0 + 1 + 4 + 3 * 9, 400 + 100 + 0 + 100 + 3 * 400));

  std::vector<float> dx(12);
  const std::vector<float> dy(12, 1);
  const std::vector<double> mean_dz = {1, 0};
  const std::vector<double> grad_slope = {0.5, 0};
  reference.input_gradient({{.data = view(first, Layout::channels_first),
                             .source = Source::input,
                             .weight = weight.data(),
                             .dy = dy.data(),
                             .y = nullptr,
                             .mean = mean.data(),
                             .scale = scale.data(),
                             .shift = shift.data(),
                             .negative_slope = 1},
                            mean_dz.data(),
                            grad_slope.data(),
                            dx.data(),
                            nullptr},
                           both, {scratch});
  // Channel 0: 2 (1 - w (1 + (x - 3) / 2)).
  EXPECT_THAT(dx, ElementsAre(0, 1, 0, 0, -0.5, -0.5, -1, -2, 2 * (1 - 3 * 2.5), -0.5, -0.5, -0.5));
}

TEST(ReferenceTest, SumsOfNothingAreZero) {
  std::vector<double> sums = {1, 1, 1, 1};
  const std::vector<double> pivot = {3, 40};
  const ConstTensorView nothing(first.data(), {0, 2, 3});
  reference.forward_sums({nothing, nullptr, pivot.data(), sums.data()}, both, {scratch});
  EXPECT_THAT(sums, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace syncbn::kernels
