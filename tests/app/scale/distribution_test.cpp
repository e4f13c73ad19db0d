// SPDX-License-Identifier: Apache-2.0
#include "app/scale/distribution.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "trainer/random.hpp"

namespace syncbn::app::scale {
namespace {

/// Returns numbers whose median is 2 and whose mean does not exist: 2 + tan of an even angle.
std::vector<double> cauchy(std::uint64_t seed, std::size_t count) {
  const trainer::Random random({seed});
  std::vector<double> samples;
  for (std::size_t i = 0; i < count; ++i) {
    samples.push_back(2 + std::tan(3.14159265 * (random.uniform(i) - 0.5)));
  }
  return samples;
}

TEST(Median, LiesBetweenTheMiddleSamples) {
  EXPECT_EQ(median({3, 1, 2}).value, 2);
  EXPECT_EQ(median({4, 1, 3, 2}).value, 2.5);
  EXPECT_EQ(median({7}).value, 7);
}

TEST(Median, HasTheWholeRangeForItsIntervalBelowSixSamples) {
  const Interval found = median({5, 1, 4, 2, 3});
  EXPECT_EQ(found.low, 1);
  EXPECT_EQ(found.high, 5);
}

// The places are those of the table in Le Boudec's book (appendix A): 31 samples, the 10th and
// 22nd.
TEST(Median, HasAnIntervalBetweenTheSamplesOfTheTable) {
  std::vector<double> samples(31);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[samples.size() - 1 - i] = static_cast<double>(i + 1);
  }
  EXPECT_EQ(median(samples).low, 10);
  EXPECT_EQ(median(samples).high, 22);
}

// Of 2000 intervals 1900 are to have the true median, and by the binomial distribution 1860 have it
// with a probability of 1 - 4e-5 if the intervals were no wider than that; they are a little.
TEST(Median, HasAnIntervalThatHoldsForAnyDistribution) {
  for (const std::size_t count : {20, 101, 500}) {
    int held = 0;
    for (std::uint64_t seed = 0; seed < 2000; ++seed) {
      const Interval found = median(cauchy(1000 * count + seed, count));
      held += found.low <= 2 && 2 <= found.high ? 1 : 0;
    }
    EXPECT_GE(held, 1860) << count;
    EXPECT_LT(held, 2000) << count << ": intervals that always hold are too wide";
  }
}

/// Returns samples of which each is like the one before it: x' = 0.9 x + noise, about 10.
std::vector<double> alike(std::uint64_t seed, std::size_t count) {
  const trainer::Random random({seed, 3});
  std::vector<double> samples;
  double x = 0;
  for (std::size_t i = 0; i < count; ++i) {
    x = 0.9 * x + random.normal(i);
    samples.push_back(10 + x);
  }
  return samples;
}

// For such samples an interval for independent ones holds in less than half of all cases.
TEST(Median, HasAnIntervalThatAllowsForSamplesThatAreAlike) {
  int held = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const Interval found = median(alike(seed, 2000));
    held += found.low <= 10 && 10 <= found.high ? 1 : 0;
  }
  EXPECT_GE(held, 440);
}

TEST(IsEnough, NeedsSixSamplesWhateverTheInterval) {
  EXPECT_FALSE(is_enough(1, median({5}), 1, 0.02));
  EXPECT_FALSE(is_enough(5, median({5, 5, 5, 5, 5}), 1, 0.02));
  EXPECT_TRUE(is_enough(6, median({5, 5, 5, 5, 5, 5}), 1, 0.02));
  EXPECT_FALSE(is_enough(6, median({5, 5, 5, 5, 5, 5}), 10, 0.02));
  EXPECT_FALSE(is_enough(6, median({1, 5, 5, 5, 5, 9}), 6, 0.02));
}

TEST(RatioOfMedians, IsThatOfTheSumsOfMedians) {
  const std::array<std::vector<double>, 2> above{{{1, 2, 3}, {10, 11, 12}}};
  const std::array<std::vector<double>, 1> below{{{4, 5, 6}}};
  EXPECT_EQ(ratio_of_medians(above, below, 1).value, 13.0 / 5);
}

TEST(RatioOfMedians, HasAnIntervalThatHolds) {
  int held = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::array<std::vector<double>, 2> times;
    const trainer::Random random({seed, 7});
    for (std::size_t i = 0; i < 200; ++i) {
      times[0].push_back(1.2 * (10 + random.normal(2 * i)));
      times[1].push_back(10 + random.normal(2 * i + 1));
    }
    const Interval found = ratio_of_medians({&times[0], 1}, {&times[1], 1}, seed);
    held += found.low <= 1.2 && 1.2 <= found.high ? 1 : 0;
  }
  EXPECT_GE(held, 176);  // 190 are expected; 4.5 standard deviations less
  EXPECT_LT(held, 200);
}

TEST(Describe, GivesQuantilesBetweenTheLeastAndTheGreatest) {
  std::vector<double> samples;
  for (int i = 100; i >= 0; --i) {
    samples.push_back(i);
  }
  const Json found = describe(samples);
  EXPECT_EQ(found["count"], 101);
  EXPECT_EQ(found["median"], 50);
  ASSERT_EQ(found["quantiles"].size(), probabilities.size());
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    EXPECT_NEAR(found["quantiles"][i], 100 * probabilities[i], 1e-9);
  }
}

TEST(Rounded, KeepsFourDigits) {
  EXPECT_EQ(rounded(1.23456e-6), 1.235e-6);
  EXPECT_EQ(rounded(0), 0);
}

}  // namespace
}  // namespace syncbn::app::scale
