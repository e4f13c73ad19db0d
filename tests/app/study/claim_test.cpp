// SPDX-License-Identifier: Apache-2.0
#include "app/study/claim.hpp"

#include <array>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/study/results.hpp"
#include "app/study/run.hpp"
#include "app/study/sweep.hpp"

namespace syncbn::app::study {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::IsNan;

Claim above(std::vector<double> values, double margin = 0) {
  return {.text = "It is more",
          .quantity = "",
          .unit = "points",
          .margin = margin,
          .values = std::move(values)};
}

Claim tested(Claim::Test test, std::vector<double> values, double margin) {
  Claim claim = above(std::move(values), margin);
  claim.test = test;
  return claim;
}

Claim within(std::vector<double> values, double margin) {
  return tested(Claim::Test::within, std::move(values), margin);
}

Claim below(std::vector<double> values, double margin) {
  return tested(Claim::Test::below, std::move(values), margin);
}

TEST(Band, IsStudentsIntervalOfTheMean) {
  // t = 4.303 for two degrees of freedom, standard error 1 / sqrt(3).
  const Band found = band({1, 3, 2});
  EXPECT_EQ(found.mean, 2);
  EXPECT_NEAR(found.low, 2 - 4.303 / std::sqrt(3), 1e-12);
  EXPECT_NEAR(found.high, 2 + 4.303 / std::sqrt(3), 1e-12);
}

TEST(Band, OfOneSeedIsInfinite) {
  EXPECT_TRUE(std::isinf(band({5}).low));
  EXPECT_TRUE(to_json(above({5}))["low"].is_null());
  EXPECT_EQ(verdict(above({5})), Verdict::not_decided);
}

TEST(Band, HoldsTheMeanOfSkewedValues) {
  std::vector<double> values(15, 10.0);
  values.insert(values.end(), {-20, -25, -30, -35});
  const Band found = band(values);
  EXPECT_GT(found.mean, found.low);
  EXPECT_LT(found.mean, found.high);
}

TEST(Band, IsWiderByTheResolution) {
  EXPECT_NEAR(band({1, 3, 2}, 0.5).low, band({1, 3, 2}).low - 0.5, 1e-12);
  Claim on_a_grid = above({0.5, 0.5, 0.5});
  EXPECT_EQ(verdict(on_a_grid), Verdict::held);
  on_a_grid.resolution = 0.5;
  EXPECT_EQ(verdict(on_a_grid), Verdict::not_decided) << "each may be 0";
}

TEST(Band, IsInfiniteWhereAValueIsNoNumber) {
  const Claim claim = above({1, std::nan(""), 1});
  EXPECT_EQ(verdict(claim), Verdict::not_decided);
  EXPECT_EQ(amount(claim), "no number (3 seeds)");
  EXPECT_TRUE(to_json(claim)["mean"].is_null());
}

TEST(Band, OfManySeedsTakesTheTablesLastQuantile) {
  std::vector<double> values;
  for (int i = 0; i < 100; ++i) {
    values.push_back(i % 2 == 0 ? 1 : -1);
  }
  EXPECT_NEAR(band(values).high, 2.086 * std::sqrt(100.0 / 99 / 100), 1e-12);
}

TEST(Verdict, IsGivenOnlyWhereTheWholeBandLiesOnOneSide) {
  EXPECT_EQ(verdict(above({10, 11, 12})), Verdict::held);
  EXPECT_EQ(verdict(above({10, 11, 12}, 20)), Verdict::did_not_hold);
  EXPECT_EQ(verdict(above({10, 11, 12}, 9)), Verdict::not_decided);
  EXPECT_EQ(verdict(above({-1, 1, 3})), Verdict::not_decided);
  EXPECT_EQ(verdict(above({0, 0, 0})), Verdict::not_decided) << "nothing was learnt, say";
  EXPECT_EQ(verdict(above({-1, -1.1, -1.2})), Verdict::did_not_hold);
  EXPECT_EQ(verdict(below({1, 2, 3}, 10)), Verdict::held);
  EXPECT_EQ(verdict(below({-90, -91, -92}, 10)), Verdict::held) << "however small";
  EXPECT_EQ(verdict(below({11, 12, 13}, 12)), Verdict::not_decided);
  EXPECT_EQ(verdict(below({11, 12, 13}, 5)), Verdict::did_not_hold);
  EXPECT_EQ(verdict(within({-0.1, 0, 0.1}, 1)), Verdict::held);
  EXPECT_EQ(verdict(within({-3, 0, 3}, 1)), Verdict::not_decided);
  EXPECT_EQ(verdict(within({5, 5.1, 5.2}, 1)), Verdict::did_not_hold);
  EXPECT_EQ(verdict(within({-5, -5.1, -5.2}, 1)), Verdict::did_not_hold);
}

TEST(Verdict, OfAnExperimentIsThatOfItsMainClaimAndTheControls) {
  const Claim held = above({1, 1, 1}), other = above({-1, 0, 1});
  Claim open = above({-1, 0, 1}), failed = above({-1, -1, -1});
  open.control = failed.control = true;
  EXPECT_EQ(verdict({held, other}), Verdict::held);
  EXPECT_EQ(verdict({other, held}), Verdict::not_decided);
  EXPECT_EQ(verdict({held, held}), Verdict::held);
  EXPECT_EQ(verdict({held, open}), Verdict::not_decided);
  EXPECT_EQ(verdict({held, open, failed}), Verdict::did_not_hold);
  EXPECT_EQ(verdict(std::vector<Claim>()), Verdict::not_decided);
}

TEST(Claim, SaysByHowMuchOverHowManySeeds) {
  EXPECT_EQ(amount(above({1, 1, 1})), "+1 points (+1 to +1, 3 seeds)");
  EXPECT_EQ(amount(above({2})), "+2 points (1 seed)");
}

TEST(Sweep, IsLookedAtSeedBySeed) {
  const Sweep sweep{{0.74, 0.1}, {0.76, 0.3}, {0.72, 0.1}, {0.2, 0.1}};
  EXPECT_THAT(best(sweep), ElementsAre(0.76, 0.3));
  EXPECT_THAT(mean(sweep), ElementsAre(DoubleNear(0.605, 1e-12), DoubleNear(0.15, 1e-12)));
  EXPECT_THAT(spread(sweep), ElementsAre(DoubleNear(0.56, 1e-12), DoubleNear(0.2, 1e-12)));
  constexpr std::array rates{0.1, 1.0, 10.0, 100.0};
  EXPECT_THAT(highest_that_learns(sweep, rates), ElementsAre(1, 0));
}

TEST(Results, AreFoundByVariantAndSeed) {
  const auto result = [](double accuracy) {
    return Json{{"diverged_at", nullptr}, {"final", {{"test_accuracy", accuracy}}}};
  };
  const Json variant = {{"norm", "sync"}, {"learning_rate", 0.1}};
  EXPECT_EQ(run_name("rates", variant, 7), "rates-sync-0.1-7");
  const Results results({{"rates-sync-0.1-7", result(0.5)}, {"rates-sync-0.1-8", result(0.6)}},
                        {7, 8});
  EXPECT_THAT(results.of("rates", variant, final_value("test_accuracy")), ElementsAre(0.5, 0.6));
  EXPECT_THAT(results.of("rates", variant, final_value("loss")), ElementsAre(IsNan(), IsNan()));
  EXPECT_THAT(points_above({0.5, 0.75}, {0.25, 0.5}), ElementsAre(25, 25));
}

TEST(Checkpoints, EndWithTheLastStep) {
  EXPECT_THAT(checkpoints(100, 4), ElementsAre(25, 50, 75, 100));
  EXPECT_THAT(checkpoints(3, 4), ElementsAre(1, 2, 3)) << "each once, and none before the first";
}

}  // namespace
}  // namespace syncbn::app::study
