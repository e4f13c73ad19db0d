// SPDX-License-Identifier: Apache-2.0
#include "trainer/schedule.hpp"

#include <gtest/gtest.h>

namespace syncbn::trainer {
namespace {

TEST(Schedule, FollowsItsCurve) {
  TrainOptions options;
  options.learning_rate = 8;
  options.schedule = Schedule::constant;
  EXPECT_EQ(learning_rate(options, 0, 100), 8);
  EXPECT_EQ(learning_rate(options, 99, 100), 8);
  options.schedule = Schedule::cosine;
  EXPECT_EQ(learning_rate(options, 0, 100), 8);
  EXPECT_NEAR(learning_rate(options, 50, 100), 4, 1e-12);
  EXPECT_NEAR(learning_rate(options, 100, 100), 0, 1e-12);
  options.schedule = Schedule::step;
  EXPECT_EQ(learning_rate(options, 49, 100), 8);
  EXPECT_NEAR(learning_rate(options, 50, 100), 0.8, 1e-12);
  EXPECT_NEAR(learning_rate(options, 75, 100), 0.08, 1e-12);
}

}  // namespace
}  // namespace syncbn::trainer
