// SPDX-License-Identifier: Apache-2.0
//
// Population statistics against those of all elements from their definition, in long double.
#include "syncbn/population.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::failure_of;
using test::Tensor;
using testing::HasSubstr;

constexpr std::int64_t channels = 5, positions = 3;

struct Moments {
  double mean, var;
};

/// Returns mean and biased variance of a channel's elements.
Moments moments_of(const Tensor& x, std::int64_t c) {
  const Shape& shape = x.shape();
  const auto count = static_cast<long double>(shape.n * shape.s);
  long double sum = 0, squares = 0;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t s = 0; s < shape.s; ++s) {
      sum += x.at(n, c, s);
    }
  }
  const long double mean = sum / count;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t s = 0; s < shape.s; ++s) {
      squares += (x.at(n, c, s) - mean) * (x.at(n, c, s) - mean);
    }
  }
  return {static_cast<double>(mean), static_cast<double>(squares / count)};
}

/// Returns what move_far_pivots lets the variance be off by, relatively.
double tolerance(DType dtype) {
  return dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-8 : 1e-4;
}

void expect_moments(const Statistics& found, const Tensor& all) {
  EXPECT_EQ(found.count, static_cast<double>(all.shape().n * all.shape().s));
  for (std::int64_t c = 0; c < all.shape().c; ++c) {
    const auto [mean, var] = moments_of(all, c);
    const auto at = static_cast<std::size_t>(c);
    const double near = tolerance(all.dtype());
    // A double can be no nearer to a mean that is far from 0.
    const double spacing = std::numeric_limits<double>::epsilon() * std::abs(mean);
    EXPECT_NEAR(found.mean[at], mean, near * std::sqrt(var) + 4 * spacing) << "channel " << c;
    EXPECT_NEAR(found.var[at], var, near * var) << "channel " << c;
    EXPECT_NEAR(found.invstd[at], 1 / std::sqrt(var), near / std::sqrt(var)) << "channel " << c;
  }
}

/// Returns 60 samples, whose mean drifts so that no batch has that of all.
Tensor all_samples(DType dtype, Layout layout, double mean) {
  const Shape shape{60, channels, positions};
  Tensor x = Tensor::normal(dtype, shape, layout, 7, mean);
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t c = 0; c < shape.c; ++c) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        x.set(n, c, s, x.at(n, c, s) + 0.1 * static_cast<double>(n));
      }
    }
  }
  return x;
}

/// Adds this rank's part of the samples. The ranks take turns: rank r has batches of r, r + 1, ...
/// samples, so that the first one of rank 0 is empty, and of several ranks the second has no batch.
void add_share(PopulationStatistics& population, const Tensor& all, const Communicator& group) {
  const std::int64_t ranks = group.size(), samples = all.shape().n;
  std::int64_t begin = 0;
  for (std::int64_t turn = 0; begin < samples; ++turn) {
    const std::int64_t rank = turn % ranks;
    if (rank == 1) {
      continue;
    }
    const std::int64_t size = std::min(rank + turn / ranks, samples - begin);
    if (rank == group.rank()) {
      population.add(all.samples(begin, begin + size).view());
    }
    begin += size;
  }
}

TEST(Population, PoolsUnevenBatchesOfAllRanks) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      for (const double mean : {0.0, 30.0, -1000.0}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + ", mean " + std::to_string(mean));
        const Tensor all = all_samples(dtype, layout, mean);
        test::on_ranks([&](const Communicator& group) {
          PopulationStatistics population(channels);
          add_share(population, all, group);
          expect_moments(population.finish(group), all);
        });
      }
    }
  }
}

/// A batch's mean of 1e8 is rounded to 1.5e-8 standard deviations, and the variance between batches
/// with it.
TEST(Population, KeepsAVarianceFarBelowTheMean) {
  Tensor all =
      Tensor::normal(DType::f64, {60, channels, positions}, Layout::channels_first, 3, 1e8);
  test::on_ranks([&](const Communicator& group) {
    PopulationStatistics population(channels);
    add_share(population, all, group);
    const Statistics found = population.finish(group);
    for (std::int64_t c = 0; c < channels; ++c) {
      const double var = moments_of(all, c).var;
      EXPECT_NEAR(found.var[static_cast<std::size_t>(c)], var, 1e-7 * var);
    }
  });
}

TEST(Population, IsNotTheMeanOfTheBatchesVariances) {
  const Tensor all = all_samples(DType::f32, Layout::channels_first, 0);
  double mean_of_variances = 0;
  for (std::int64_t begin = 0; begin < 60; begin += 6) {
    mean_of_variances += moments_of(all.samples(begin, begin + 6), 0).var / 10;
  }
  EXPECT_GT(moments_of(all, 0).var, 1.5 * mean_of_variances);
  PopulationStatistics population(channels);
  add_share(population, all, Communicator::self());
  EXPECT_GT(population.finish(Communicator::self()).var[0], 1.5 * mean_of_variances);
}

TEST(Population, GivesAllRanksTheSameBits) {
  const Tensor all = all_samples(DType::f32, Layout::channels_first, 30);
  test::on_ranks([&](const Communicator& group) {
    PopulationStatistics population(channels);
    add_share(population, all, group);
    const Statistics found = population.finish(group);
    const std::vector<double> everywhere = group.all_gather(found.var);
    for (std::size_t i = 0; i < everywhere.size(); ++i) {
      EXPECT_EQ(everywhere[i], found.var[i % found.var.size()]);
    }
  });
}

TEST(Population, CountsAPositionByItsWeight) {
  const Tensor x = Tensor::normal(DType::f64, {4, channels, 1}, Layout::channels_first, 1);
  PopulationStatistics weighted(channels), repeated(channels);
  const std::vector<float> weights{2, 0, 1, 1};
  weighted.add(x.view(), weights);
  for (const std::int64_t n : {0, 0, 2, 3}) {
    repeated.add(x.samples(n, n + 1).view());
  }
  const Statistics a = weighted.finish(Communicator::self());
  const Statistics b = repeated.finish(Communicator::self());
  EXPECT_EQ(a.count, 4);
  for (std::size_t c = 0; c < channels; ++c) {
    EXPECT_NEAR(a.mean[c], b.mean[c], 1e-14);
    EXPECT_NEAR(a.var[c], b.var[c], 1e-14);
  }
}

/// The square of such a mean is beyond double, the variance is not.
TEST(Population, TakesAMeanWhoseSquareOverflows) {
  constexpr double value = 1e160;
  Tensor x(DType::f64, {4, 1, 1}, Layout::channels_first);
  for (std::int64_t n = 0; n < 4; ++n) {
    x.set(n, 0, 0, value);
  }
  test::on_ranks([&](const Communicator& group) {
    PopulationStatistics population(1);
    population.add(x.view());
    population.add(x.samples(0, 3).view());
    const Statistics found = population.finish(group);
    EXPECT_EQ(found.count, 7 * group.size());
    EXPECT_NEAR(found.mean[0] / value, 1, 1e-15);
    EXPECT_TRUE(std::isfinite(found.var[0])) << found.var[0];
    EXPECT_LE(found.var[0] / value / value, 1e-30) << "the rounding of the mean";
  });
}

TEST(Population, OfNothingChangesNothing) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(channels, group);
    PopulationStatistics population(channels);
    population.add(Tensor(DType::f32, {0, channels, 1}, Layout::channels_first).view());
    const Statistics found = population.finish(group);
    EXPECT_EQ(found.count, 0);
    EXPECT_EQ(found.mean, std::vector<double>(channels, 0.0));
    layer.set_running_statistics(found);
    EXPECT_EQ(layer.running_mean()[0], 0);
    EXPECT_EQ(layer.running_var()[0], 1);
  });
}

TEST(Population, MakesALayerNormalizeByIt) {
  const Tensor all = all_samples(DType::f32, Layout::channels_first, 30);
  test::on_ranks([&](const Communicator& group) {
    BatchNorm layer(channels, group);
    PopulationStatistics population(channels);
    add_share(population, all, group);
    layer.set_running_statistics(population.finish(group));
    Tensor y(DType::f32, all.shape(), all.layout());
    layer.infer(all.view(), y.view());
    constexpr double n = 60.0 * positions;
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto [mean, var] = moments_of(all, c);
      const double invstd = 1 / std::sqrt(var * n / (n - 1) + layer.options().eps);
      EXPECT_NEAR(y.at(17, c, 1), (all.at(17, c, 1) - mean) * invstd, 1e-6);
    }
    ForwardRecord record;  // and it can go on training
    layer.forward(all.view(), y.view(), record);
    EXPECT_EQ(layer.pivot_retries(), 0) << "the population's mean is a good pivot";
  });
}

TEST(Population, GoesOnAfterItWasAskedFor) {
  const Tensor all = all_samples(DType::f64, Layout::channels_first, 0);
  PopulationStatistics population(channels);
  population.add(all.samples(0, 20).view());
  expect_moments(population.finish(Communicator::self()), all.samples(0, 20));
  population.add(all.samples(20, 60).view());
  expect_moments(population.finish(Communicator::self()), all);
}

TEST(Population, ShowsNaNWhereAnElementIsNone) {
  Tensor x = all_samples(DType::f32, Layout::channels_first, 0);
  x.set(3, 1, 0, std::numeric_limits<double>::quiet_NaN());
  PopulationStatistics population(channels);
  population.add(x.samples(0, 30).view());
  population.add(x.samples(30, 60).view());
  const Statistics found = population.finish(Communicator::self());
  EXPECT_TRUE(std::isnan(found.mean[1]));
  EXPECT_TRUE(std::isnan(found.var[1]));
  EXPECT_NEAR(found.var[0], moments_of(x, 0).var, 1e-7);

  BatchNorm layer(channels, Communicator::self());
  EXPECT_THAT(failure_of<InvalidArgument>([&] { layer.set_running_statistics(found); }),
              HasSubstr("mean[1] of the population is nan"));
  EXPECT_EQ(layer.running_mean()[0], 0) << "nothing is changed";
}

TEST(Population, RefusesWhatCannotBe) {
  EXPECT_THAT(failure_of<InvalidArgument>([] { PopulationStatistics(0); }),
              HasSubstr("0 channels"));
  PopulationStatistics population(channels);
  const Tensor other(DType::f32, {2, channels + 1, 1}, Layout::channels_first);
  EXPECT_THAT(failure_of<InvalidArgument>([&] { population.add(other.view()); }),
              HasSubstr("x has 6 channels (the population statistics have 5)"));
  EXPECT_EQ(population.finish(Communicator::self()).count, 0);

  BatchNorm untracked(channels, Communicator::self(), {.track_running_stats = false});
  const Statistics found = population.finish(Communicator::self());
  EXPECT_THAT(failure_of<NotConfigured>([&] { untracked.set_running_statistics(found); }),
              HasSubstr("no running statistics"));
  BatchNorm wider(channels + 1, Communicator::self());
  EXPECT_THAT(failure_of<InvalidArgument>([&] { wider.set_running_statistics(found); }),
              HasSubstr("has 5 means"));
  BatchNorm layer(channels, Communicator::self());
  Statistics negative{
      .mean = std::vector<double>(channels), .var = {1, 1, -1, 1, 1}, .invstd = {}, .count = 3};
  EXPECT_THAT(failure_of<InvalidArgument>([&] { layer.set_running_statistics(negative); }),
              HasSubstr("negative"));
  std::vector<float> mean(channels), var(channels, 1.0F);
  BatchNorm small(channels, Communicator::self(), {},
                  {.running_mean = {mean.data(), DType::f32, channels},
                   .running_var = {var.data(), DType::f32, channels}});
  negative.var[2] = 1e300;
  EXPECT_THAT(failure_of<InvalidArgument>([&] { small.set_running_statistics(negative); }),
              HasSubstr("var[2]"));
  EXPECT_EQ(var, std::vector<float>(channels, 1.0F));
}

TEST(Population, IsRefusedWithACountThatCannotBe) {
  BatchNorm layer(channels, Communicator::self());
  Statistics population{.mean = std::vector<double>(channels, 3),
                        .var = std::vector<double>(channels, 2),
                        .invstd = {},
                        .count = 0};
  for (const double count : {-5.0, -0.5, std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity()}) {
    population.count = count;
    EXPECT_THAT(failure_of<InvalidArgument>([&] { layer.set_running_statistics(population); }),
                HasSubstr("count of " + std::to_string(count)));
    EXPECT_EQ(layer.running_mean()[0], 0) << count;
    EXPECT_EQ(layer.running_var()[0], 1) << count;
  }
  population.count = 1.5;  // of weighted elements, too few for an unbiased variance
  layer.set_running_statistics(population);
  EXPECT_EQ(layer.running_mean()[0], 3);
  EXPECT_EQ(layer.running_var()[0], 1);
}

TEST(Population, TellsRanksThatHaveOtherChannels) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const Communicator own = group.split(0);  // is lost
    const PopulationStatistics population(channels + (group.rank() == 1 ? 1 : 0));
    EXPECT_THROW(population.finish(own), CommError);
  });
}

}  // namespace
}  // namespace syncbn
