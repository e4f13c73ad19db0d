// SPDX-License-Identifier: Apache-2.0
#include "app/scale/groups.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncbn::app::scale {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

TEST(Groups, FillOneHostAfterTheOther) {
  const auto plans = plan_groups({{"b", {0, 1}}, {"a", {2, 3}}}, {3});
  ASSERT_THAT(plans, SizeIs(1));  // spread, there are as many on each host
  EXPECT_THAT(plans[0].members, ElementsAre(0, 1, 2));
  EXPECT_EQ(plans[0].hosts, 2);
  EXPECT_EQ(plans[0].most_on_a_host, 2);
}

TEST(Groups, AreAlsoSpreadWhereThatMakesADifference) {
  const auto plans = plan_groups({{"a", {0, 1}}, {"b", {2, 3}}, {"c", {4, 5}}}, {2, 4, 6});
  ASSERT_THAT(plans, SizeIs(5));
  EXPECT_THAT(plans[0].members, ElementsAre(0, 1));
  EXPECT_THAT(plans[1].members, ElementsAre(0, 2));
  EXPECT_EQ(plans[1].placement, Placement::spread);
  EXPECT_EQ(plans[1].hosts, 2);
  EXPECT_EQ(plans[1].most_on_a_host, 1);
  EXPECT_THAT(plans[2].members, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(plans[3].members, ElementsAre(0, 1, 2, 4));
  EXPECT_EQ(plans[3].hosts, 3);
  EXPECT_THAT(plans[4].members, SizeIs(6));
}

TEST(Groups, TakeRanksThatAreDealtOutInTurn) {
  const auto plans = plan_groups({{"a", {0, 2}}, {"b", {1, 3}}}, {2});
  ASSERT_THAT(plans, SizeIs(2));
  EXPECT_THAT(plans[0].members, ElementsAre(0, 2));
  EXPECT_THAT(plans[1].members, ElementsAre(0, 1));
}

TEST(Groups, OfAllRanksAreOne) {
  EXPECT_THAT(plan_groups({{"a", {0, 1, 2}}, {"b", {3}}}, {1, 4}), SizeIs(2));
}

}  // namespace
}  // namespace syncbn::app::scale
