// SPDX-License-Identifier: Apache-2.0
#include "trainer/loss.hpp"

#include <array>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace syncbn::trainer {
namespace {

TEST(CrossEntropy, OfEqualLogitsIsTheLogarithmOfTheClasses) {
  const std::vector<float> logits(20, 3.0F);
  const std::array<std::uint8_t, 2> labels{0, 9};
  std::vector<float> gradient(20);
  EXPECT_NEAR(softmax_cross_entropy(logits, labels, gradient), 2 * std::log(10), 1e-12);
  EXPECT_NEAR(gradient[0], 0.1 - 1, 1e-7);
  EXPECT_NEAR(gradient[1], 0.1, 1e-7);
  EXPECT_NEAR(gradient[19], 0.1 - 1, 1e-7);
}

TEST(CrossEntropy, HasTheRightGradient) {
  std::vector<float> logits{0.5F, -1, 2, 0.25F, 1, 1.5F};
  const std::array<std::uint8_t, 2> labels{2, 0};
  std::vector<float> gradient(6), ignored(6);
  softmax_cross_entropy(logits, labels, gradient);
  constexpr float step = 1.0F / 1024;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    std::vector<float> above = logits, below = logits;
    above[i] += step;
    below[i] -= step;
    const double slope = (softmax_cross_entropy(above, labels, ignored) -
                          softmax_cross_entropy(below, labels, ignored)) /
                         (2 * step);
    EXPECT_NEAR(gradient[i], slope, 1e-6);
  }
}

TEST(CrossEntropy, SurvivesLargeLogits) {
  const std::vector<float> logits{3e38F, -3e38F};
  const std::array<std::uint8_t, 1> labels{0};
  std::vector<float> gradient(2);
  EXPECT_EQ(softmax_cross_entropy(logits, labels, gradient), 0);
  EXPECT_EQ(gradient, (std::vector<float>{0, 0}));
}

TEST(CrossEntropy, OfNothingIsZero) {
  EXPECT_EQ(softmax_cross_entropy({}, {}, {}), 0);
}

TEST(CountCorrect, ComparesTheLargestLogitWithTheLabel) {
  const std::vector<float> logits{1, 2, 0, 5, 4, 3, 0, 0, 1};
  const std::array<std::uint8_t, 3> labels{1, 1, 2};
  EXPECT_EQ(count_correct(logits, labels), 2);
  EXPECT_EQ(count_correct({}, {}), 0);
}

}  // namespace
}  // namespace syncbn::trainer
