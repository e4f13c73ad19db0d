// SPDX-License-Identifier: Apache-2.0
#include "trainer/sampler.hpp"

#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncbn::trainer {
namespace {

std::vector<std::int64_t> epoch(Sampler& sampler, std::int64_t number) {
  std::vector<std::int64_t> samples;
  for (std::int64_t i = 0; i < sampler.steps_per_epoch(); ++i) {
    const auto batch = sampler.global_batch(number * sampler.steps_per_epoch() + i);
    samples.insert(samples.end(), batch.begin(), batch.end());
  }
  return samples;
}

TEST(Sampler, TakesEachSampleOnceAnEpoch) {
  Sampler sampler(103, 10, 1);
  EXPECT_EQ(sampler.steps_per_epoch(), 11);
  EXPECT_EQ(sampler.global_batch(10).size(), 3);
  std::vector<std::int64_t> all(103);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_THAT(epoch(sampler, 0), testing::UnorderedElementsAreArray(all));
  EXPECT_THAT(epoch(sampler, 1), testing::UnorderedElementsAreArray(all));
}

TEST(Sampler, ShufflesByEpochAndSeed) {
  Sampler sampler(103, 10, 1), same(103, 10, 1), other(103, 10, 2);
  EXPECT_EQ(epoch(sampler, 0), epoch(same, 0));
  EXPECT_NE(epoch(sampler, 0), epoch(sampler, 1));
  EXPECT_NE(epoch(sampler, 0), epoch(other, 0));
}

TEST(Sampler, GivesAStepWithoutThoseBefore) {
  Sampler sampler(103, 10, 1), resumed(103, 10, 1);
  epoch(sampler, 0);
  const auto batch = sampler.global_batch(14);
  const auto later = resumed.global_batch(14);
  EXPECT_TRUE(std::equal(batch.begin(), batch.end(), later.begin(), later.end()));
}

TEST(Sampler, KnowsWhereEpochsEnd) {
  const Sampler sampler(103, 10, 1);
  EXPECT_FALSE(sampler.ends_epoch(9));
  EXPECT_TRUE(sampler.ends_epoch(10));
  EXPECT_EQ(sampler.epoch_of(10), 0);
  EXPECT_EQ(sampler.epoch_of(11), 1);
}

TEST(Sampler, MakesOneBatchOfAFewSamples) {
  Sampler sampler(3, 10, 1);
  EXPECT_EQ(sampler.steps_per_epoch(), 1);
  EXPECT_EQ(sampler.global_batch(7).size(), 3);
}

TEST(Shard, TogetherIsTheWholeAndNearlyEven) {
  for (const std::int64_t n : {0, 1, 3, 4, 13, 128}) {
    for (const int ranks : {1, 2, 3, 4, 7}) {
      std::int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Range range = shard(n, rank, ranks);
        EXPECT_EQ(range.begin, next);
        EXPECT_GE(range.size(), n / ranks);
        EXPECT_LE(range.size(), n / ranks + 1);
        next = range.end;
      }
      EXPECT_EQ(next, n);
    }
  }
}

}  // namespace
}  // namespace syncbn::trainer
