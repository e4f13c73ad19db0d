// SPDX-License-Identifier: Apache-2.0
//
// The pivot: when the sums are taken twice, and what that buys.

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "support/on_ranks.hpp"
#include "support/tensor.hpp"
#include "support/whole_batch.hpp"
#include "support/worst.hpp"

namespace syncbn {
namespace {

using test::Tensor;

Tensor shard(const Tensor& batch, const Communicator& group) {
  const std::int64_t n = batch.shape().n;
  return batch.samples(n * group.rank() / group.size(), n * (group.rank() + 1) / group.size());
}

Tensor forward(BatchNorm& layer, const Tensor& x) {
  Tensor y(x.dtype(), x.shape(), x.layout());
  ForwardRecord record;
  layer.forward(x.view(), y.view(), record);
  return y;
}

TEST(Pivot, IsMovedOnceWhenTheMeanIsFarAndThenFollowsIt) {
  test::on_ranks([](const Communicator& group) {
    const Tensor batch =
        Tensor::normal(DType::f32, {8, 3, 50}, Layout::channels_first, 1, 1e4, 1.0);
    BatchNorm layer(3, group);
    for (int step = 0; step < 20; ++step) {
      forward(layer, shard(batch, group));
    }
    EXPECT_EQ(layer.pivot_retries(), 1) << "the running mean is still far, its limit is not";
  });
}

TEST(Pivot, IsNotMovedWhereAFloatCannotComeNearer) {
  test::on_ranks([](const Communicator& group) {
    const Tensor batch =
        Tensor::normal(DType::f64, {8, 1, 50}, Layout::channels_first, 1, 1e12, 1.0);
    BatchNorm layer(1, group);
    for (int step = 0; step < 20; ++step) {
      forward(layer, shard(batch, group));
    }
    EXPECT_EQ(layer.pivot_retries(), 1);
  });
}

TEST(Pivot, WithoutRunningStatisticsTheLastBatchMeanServes) {
  test::on_ranks([](const Communicator& group) {
    const Tensor batch =
        Tensor::normal(DType::f32, {8, 3, 50}, Layout::channels_first, 1, 1e4, 1.0);
    BatchNorm layer(3, group, {.track_running_stats = false});
    forward(layer, shard(batch, group));
    forward(layer, shard(batch, group));
    EXPECT_EQ(layer.pivot_retries(), 1);
  });
}

TEST(Pivot, IsLeftAloneForOrdinaryActivations) {
  test::on_ranks([](const Communicator& group) {
    const Tensor batch = Tensor::normal(DType::f32, {8, 3, 50}, Layout::channels_first, 1, 3, 1.0);
    const Tensor constant = Tensor::normal(DType::f32, {8, 3, 50}, Layout::channels_first, 1, 0, 0);
    BatchNorm layer(3, group);
    for (int step = 0; step < 20; ++step) {
      forward(layer, shard(batch, group));
    }
    EXPECT_EQ(layer.pivot_retries(), 0);
    for (int step = 0; step < 20; ++step) {
      forward(layer, shard(constant, group));
    }
    const std::int64_t while_the_mean_decayed = layer.pivot_retries();
    for (int step = 0; step < 20; ++step) {
      forward(layer, shard(constant, group));
    }
    EXPECT_EQ(layer.pivot_retries(), while_the_mean_decayed)
        << "a dead channel must not cost two passes for ever";
  });
}

TEST(Pivot, VarianceIsRightForAnyMean) {
  // fp64 sums about a pivot near the mean: relative error of the variance within 1e-9 (see
  // move_far_pivots). A plain E[x^2] - E[x]^2 in double is off by 17 % at 1e6.
  test::on_ranks([](const Communicator& group) {
    for (const double mean : {0.0, 1.0, 1e2, 1e4, -1e5, 1e6}) {
      const Tensor batch =
          Tensor::normal(DType::f32, {8, 2, 200}, Layout::channels_first, 1, mean, 1.0);
      const test::WholeBatch oracle(batch, {1, 1}, {0, 0}, 1e-5);
      BatchNorm layer(2, group, {.momentum = 1.0});
      forward(layer, shard(batch, group));
      const double n = 8 * 200;
      for (std::size_t c = 0; c < 2; ++c) {
        const double expected = static_cast<double>(oracle.var[c]) * n / (n - 1);
        EXPECT_NEAR(layer.running_var()[c], expected, 1e-9 * expected) << "mean " << mean;
        // The mean is K + s/n in double: one rounding of K and of the sum.
        EXPECT_NEAR(layer.running_mean()[c], static_cast<double>(oracle.mean[c]),
                    4e-16 * std::fabs(mean) + 1e-14);
      }
    }
  });
}

TEST(Pivot, WorstErrorOfTheOutputIsThatOfAFloat) {
  // 2e-6 of the output's scale at any |mean|/std up to 1e4, where a mean rounded to float would
  // cost 6e-4.
  test::on_ranks([](const Communicator& group) {
    for (const double mean : {0.0, 1e1, 1e2, 1e3, 1e4}) {
      const Tensor batch =
          Tensor::normal(DType::f32, {8, 2, 200}, Layout::channels_last, 1, mean, 1.0);
      const test::WholeBatch oracle(batch, {1, 1}, {0, 0}, 1e-5);
      BatchNorm layer(2, group);
      const Tensor y = forward(layer, shard(batch, group));
      const std::int64_t begin = 8 * group.rank() / group.size();
      test::Worst worst;
      double scale = 0;
      for (std::int64_t n = 0; n < y.shape().n; ++n) {
        for (std::int64_t c = 0; c < 2; ++c) {
          for (std::int64_t s = 0; s < 200; ++s) {
            const auto expected = static_cast<double>(oracle.z(begin + n, c, s));
            worst.see(std::fabs(y.at(n, c, s) - expected));
            scale = std::max(scale, std::fabs(expected));
          }
        }
      }
      EXPECT_LE(worst.value(), 2e-6 * scale) << "mean " << mean;
    }
  });
}

TEST(Pivot, RecoversFromABatchWithInfinities) {
  test::on_ranks([](const Communicator& group) {
    const Tensor good = Tensor::normal(DType::f32, {8, 2, 20}, Layout::channels_first, 1, 1, 1);
    Tensor bad = good;
    bad.set(0, 0, 0, std::numeric_limits<double>::infinity());
    BatchNorm layer(2, group);
    const Tensor poisoned = forward(layer, shard(bad, group));
    if (poisoned.shape().n > 0) {
      EXPECT_TRUE(std::isnan(poisoned.at(poisoned.shape().n - 1, 0, 1))) << "as in one process";
      EXPECT_TRUE(std::isfinite(poisoned.at(poisoned.shape().n - 1, 1, 1))) << "another channel";
    }
    const Tensor next = forward(layer, shard(good, group));
    for (std::int64_t n = 0; n < next.shape().n; ++n) {
      EXPECT_TRUE(std::isfinite(next.at(n, 0, 0)));
    }
  });
}

TEST(Pivot, CountsAreExactBeyondFloatPrecision) {
  // 2^24 + 1 elements: a float count would lose the last one.
  test::on_ranks([](const Communicator& group) {
    std::vector<double> pivot = {0};
    std::vector<double> sums(3);
    const std::int64_t elements = (1 << 24) + 1;
    const std::int64_t begin = elements * group.rank() / group.size();
    const std::int64_t end = elements * (group.rank() + 1) / group.size();
    const std::vector<std::uint16_t> ones(static_cast<std::size_t>(end - begin), 0x3c00);
    const ConstTensorView x(ones.data(), DType::f16, {end - begin, 1, 1});
    forward_sums(x, pivot, sums);
    group.all_reduce(sums);
    EXPECT_EQ(sums[2], static_cast<double>(elements));
    EXPECT_EQ(sums[0], static_cast<double>(elements));
  });
}

}  // namespace
}  // namespace syncbn
