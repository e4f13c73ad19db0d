// SPDX-License-Identifier: Apache-2.0
#include "app/study/claim.hpp"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/study/results.hpp"
#include "app/study/run.hpp"
#include "app/study/sweep.hpp"

namespace syncbn::app::study {
namespace {

using testing::ElementsAre;

Claim above(std::vector<double> values, double margin = 0) {
  return {.text = "It is more",
          .quantity = "",
          .unit = "points",
          .margin = margin,
          .values = std::move(values)};
}

Claim within(std::vector<double> values, double margin) {
  Claim claim = above(std::move(values), margin);
  claim.test = Claim::Test::within;
  return claim;
}

TEST(Band, IsStudentsIntervalOfTheMean) {
  // t = 4.303 for two degrees of freedom, standard error 1 / sqrt(3).
  const Band found = band({1, 3, 2});
  EXPECT_EQ(found.median, 2);
  EXPECT_NEAR(found.low, 2 - 4.303 / std::sqrt(3), 1e-12);
  EXPECT_NEAR(found.high, 2 + 4.303 / std::sqrt(3), 1e-12);
}

TEST(Band, OfOneSeedIsInfinite) {
  EXPECT_TRUE(std::isinf(band({5}).low));
  EXPECT_TRUE(to_json(above({5}))["low"].is_null());
  EXPECT_EQ(verdict(above({5})), Verdict::not_decided);
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
  EXPECT_EQ(verdict(above({0, 0, 0})), Verdict::did_not_hold) << "no difference is no increase";
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

TEST(Sweep, CountsDecadesNearTheBestOfAnyNetwork) {
  const Sweep good{{0.2, 0.80}, {0.80, 0.80}, {0.78, 0.80}};
  const Sweep bad{{0.74, 0.1}, {0.76, 0.1}, {0.2, 0.1}};
  const std::array<const Sweep*, 2> both{&good, &bad};
  EXPECT_THAT(decades(good, both, 0.5), ElementsAre(1.0, 1.5));
  EXPECT_THAT(decades(bad, both, 0.5), ElementsAre(0.5, 0.0));
  EXPECT_THAT(best(bad), ElementsAre(0.76, 0.1));
}

TEST(Results, AreFoundByVariantAndSeed) {
  const auto result = [](double accuracy) {
    return Json{{"diverged_at", nullptr},
                {"series", {{"step", {10, 50, 100}}, {"test_accuracy", {0.1, 0.2, accuracy}}}},
                {"final", {{"test_accuracy", accuracy}}}};
  };
  const Json variant = {{"norm", "sync"}, {"learning_rate", 0.1}};
  EXPECT_EQ(run_name("rates", variant, 7), "rates-sync-0.1-7");
  const Results results({{"rates-sync-0.1-7", result(0.5)}, {"rates-sync-0.1-8", result(0.6)}},
                        {7, 8});
  EXPECT_THAT(results.of("rates", variant, final_value("test_accuracy")), ElementsAre(0.5, 0.6));
  EXPECT_THAT(results.of("rates", variant, value_after("test_accuracy", 0.2)),
              ElementsAre(0.2, 0.2));
  EXPECT_THAT(points_above({0.5, 0.75}, {0.25, 0.5}), ElementsAre(25, 25));
}

TEST(Checkpoints, EndWithTheLastStep) {
  EXPECT_THAT(checkpoints(100, 4), ElementsAre(25, 50, 75, 100));
  EXPECT_THAT(checkpoints(3, 4), ElementsAre(1, 2, 3)) << "each once, and none before the first";
}

}  // namespace
}  // namespace syncbn::app::study
