// SPDX-License-Identifier: Apache-2.0
//
// What a batch's statistics have to do with what came before it: nothing, whatever running
// statistics held, were loaded with, or were written over with.

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "support/on_ranks.hpp"
#include "support/tensor.hpp"
#include "support/whole_batch.hpp"

namespace syncbn {
namespace {

using test::Tensor;

constexpr std::int64_t channels = 3;
constexpr Shape whole{8, channels, 98};

Tensor shard(const Tensor& batch, const Communicator& group) {
  const std::int64_t n = batch.shape().n;
  return batch.samples(n * group.rank() / group.size(), n * (group.rank() + 1) / group.size());
}

std::vector<float> weights_of(const Tensor& x, float weight) {
  const auto positions = static_cast<std::size_t>(x.shape().per_channel());
  return weight == 1 ? std::vector<float>() : std::vector<float>(positions, weight);
}

/// The statistics of a step.
Statistics forward(BatchNorm& layer, const Tensor& x, float weight = 1) {
  Tensor y(x.dtype(), x.shape(), x.layout());
  ForwardRecord record;
  layer.forward(x.view(), y.view(), record, {.position_weights = weights_of(x, weight)});
  const auto values = [](std::span<const double> array) {
    return std::vector<double>(array.begin(), array.end());
  };
  return {values(record.mean()), values(record.var()), values(record.invstd()), record.count()[0]};
}

/// Relative to a batch's own, in long double.
void expect_statistics_of(const Tensor& batch, const Statistics& got, double tolerance) {
  const test::WholeBatch oracle(batch, {}, {}, 0);
  for (std::size_t c = 0; c < channels; ++c) {
    const auto var = static_cast<double>(oracle.var[c]);
    EXPECT_NEAR(got.var[c], var, tolerance * var);
    EXPECT_NEAR(got.mean[c], static_cast<double>(oracle.mean[c]), tolerance * std::sqrt(var));
  }
}

StateDict state_with(double running_mean, std::int64_t batches) {
  StateDict state;
  state.tensors["weight"] = StateTensor::from(std::vector<double>(channels, 1));
  state.tensors["bias"] = StateTensor::from(std::vector<double>(channels, 0));
  state.tensors["running_mean"] = StateTensor::from(std::vector<double>(channels, running_mean));
  state.tensors["running_var"] = StateTensor::from(std::vector<double>(channels, 1));
  state.tensors["num_batches_tracked"] = StateTensor::from(batches);
  return state;
}

TEST(PivotHistory, LoadedStatisticsServeWhateverTheirCounterSays) {
  test::on_ranks([](const Communicator& group) {
    for (const double mean : {1e2, 1e3, 1e4}) {
      for (const std::int64_t batches : {0, 1'000'000}) {
        BatchNorm layer(channels, group);
        layer.load_state(state_with(mean, batches));
        for (std::uint64_t step = 0; step < 60; ++step) {
          const Tensor batch =
              Tensor::normal(DType::f32, whole, Layout::channels_first, step, mean);
          // Terms of double about a pivot within a deviation: see channels/pivot.hpp.
          expect_statistics_of(batch, forward(layer, shard(batch, group)), 1e-9);
        }
        EXPECT_EQ(layer.pivot_retries(), 0) << "mean " << mean << ", counter " << batches;
      }
    }
  });
}

// Its first steps are foretold wrongly, as ten times the mean, and cost a repeat once.
TEST(PivotHistory, AFewBatchesAfterALoadWithoutACounterCanBeSavedAndLoaded) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(channels, group);
    layer.load_state(state_with(1e3, 2));
    for (std::uint64_t step = 0; step < 60; ++step) {
      const Tensor batch = Tensor::normal(DType::f32, whole, Layout::channels_first, step, 1e3);
      expect_statistics_of(batch, forward(layer, shard(batch, group)), 1e-9);
    }
    EXPECT_LE(layer.pivot_retries(), 1);
  });
}

TEST(PivotHistory, AMomentumOfZeroStillFindsTheMean) {
  test::on_ranks([](const Communicator& group) {
    for (const double mean : {1e3, 1e4}) {
      BatchNorm layer(channels, group, {.momentum = 0});
      for (std::uint64_t step = 0; step < 20; ++step) {
        const Tensor batch = Tensor::normal(DType::f32, whole, Layout::channels_first, step, mean);
        expect_statistics_of(batch, forward(layer, shard(batch, group)), 1e-9);
      }
      EXPECT_LE(layer.pivot_retries(), 1) << "the first sums alone are about 0";
      EXPECT_EQ(layer.running_mean()[0], 0);
    }
  });
}

struct Jump {
  DType dtype;
  double outlier;
  float weight;
  double tolerance;  ///< of statistics: of sums in double, or of 16-bit types' in float
};

TEST(PivotHistory, ABatchAfterAnOutlierIsAsByItself) {
  constexpr double in_float = 13 * 0x1p-24 + 5e-5;
  const std::vector<Jump> jumps{
      {DType::bf16, 1e10, 1, in_float}, {DType::bf16, 1e15, 1, in_float},
      {DType::bf16, 1e16, 1, in_float}, {DType::bf16, 1e30, 1, in_float},
      {DType::bf16, 3e38, 1, in_float}, {DType::bf16, 1e16, 0.3F, in_float},
      {DType::f16, 65504, 1, in_float}, {DType::f32, 1e18, 0.7F, 1e-9},
      {DType::f32, 1e20, 1, 1e-9},      {DType::f32, 3e38, 0.3F, 1e-9},
      {DType::f64, 1e18, 0.7F, 1e-12},  {DType::f64, 1e20, 0.1F, 1e-12},
      {DType::f64, 1e100, 1, 1e-12},    {DType::f64, 1e200, 1, 1e-12},
      {DType::f64, 1e300, 0.3F, 1e-12},
  };
  test::on_ranks([&](const Communicator& group) {
    for (const Jump& jump : jumps) {
      for (const bool tracked : {true, false}) {
        SCOPED_TRACE(testing::Message() << to_string(jump.dtype) << " " << jump.outlier
                                        << (tracked ? "" : " not tracked"));
        BatchNorm layer(channels, group, {.track_running_stats = tracked});
        BatchNorm exact(
            channels, group,
            {.track_running_stats = tracked, .reproducibility = Reproducibility::exact});
        Tensor outlier = Tensor::normal(jump.dtype, whole, Layout::channels_first, 1);
        for (std::int64_t c = 0; c < channels; ++c) {
          outlier.set(7, c, 5, jump.outlier);
        }
        forward(layer, shard(outlier, group), jump.weight);
        if (jump.outlier < 1e150) {
          forward(exact, shard(outlier, group), jump.weight);
        }
        for (std::uint64_t step = 2; step < 12; ++step) {
          const Tensor batch = Tensor::normal(jump.dtype, whole, Layout::channels_first, step);
          expect_statistics_of(batch, forward(layer, shard(batch, group), jump.weight),
                               jump.tolerance);
          if (jump.outlier <
              1e150) {  // squares of more count as infinite, see channels/exact_steps.hpp
            expect_statistics_of(batch, forward(exact, shard(batch, group), jump.weight),
                                 jump.dtype == DType::f64 ? 1e-12 : 0x1p-25);
          }
        }
        EXPECT_LE(layer.pivot_retries(), 2) << "the outlier's batch, and the one after it";
      }
    }
  });
}

TEST(PivotHistory, ABatchAfterWrittenStatisticsIsAsByItself) {
  test::on_ranks([](const Communicator& group) {
    for (const double written : {1e8, 1e30, 1e300, std::numeric_limits<double>::infinity(),
                                 std::numeric_limits<double>::quiet_NaN()}) {
      for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
        SCOPED_TRACE(testing::Message() << to_string(dtype) << " " << written);
        BatchNorm layer(channels, group);
        const double tolerance = size_of(dtype) == 2 ? 5.1e-5 : 1e-9;
        for (std::uint64_t step = 0; step < 6; ++step) {
          if (step % 3 == 0) {
            std::ranges::fill(layer.running_mean(), written);
            std::ranges::fill(layer.running_var(), std::fabs(written));
          }
          const Tensor batch = Tensor::normal(dtype, whole, Layout::channels_first, step, 2);
          expect_statistics_of(batch, forward(layer, shard(batch, group)), tolerance);
        }
      }
    }
  });
}

TEST(PivotHistory, AMomentumOfOneIsTheBatch) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(1, group, {.eps = 0, .momentum = 1});
    const auto step = [&](double first, double second) {
      Tensor batch(DType::f64, {4, 1, 1}, Layout::channels_first);
      for (std::int64_t n = 0; n < 4; ++n) {
        batch.set(n, 0, 0, n % 2 == 0 ? first : second);
      }
      forward(layer, shard(batch, group));
    };
    step(-1e-10, 1e-10);
    EXPECT_NEAR(layer.running_var()[0], 1e-20 * 4 / 3, 1e-30);
    step(1e12, 1e12);
    EXPECT_EQ(layer.running_mean()[0], 1e12);
    step(1.1, 1.1);
    EXPECT_NEAR(layer.running_mean()[0], 1.1, 3e-16);
    std::ranges::fill(layer.running_var(), std::numeric_limits<double>::infinity());
    step(-1, 1);
    EXPECT_NEAR(layer.running_var()[0], 4.0 / 3, 1e-15);
  });
}

// Steps of a training that was resumed from a file have the bits of one that went on: what sums
// start from follows from what is record.
TEST(PivotHistory, AResumedLayerHasTheBitsOfOneThatWentOn) {
  test::on_ranks([](const Communicator& group) {
    for (const auto& momentum : {std::optional<double>(0.1), std::optional<double>()}) {
      BatchNorm layer(channels, group, {.momentum = momentum});
      for (std::uint64_t step = 0; step < 12; ++step) {
        const Tensor batch = Tensor::normal(DType::f32, whole, Layout::channels_first, step,
                                            5 + 0.1 * static_cast<double>(step));
        StateDict state;
        layer.save_state(state);
        BatchNorm resumed(channels, group, {.momentum = momentum});
        resumed.load_state(state);
        const Tensor x = shard(batch, group);
        EXPECT_EQ(forward(layer, x).var, forward(resumed, x).var) << "step " << step;
      }
    }
  });
}

}  // namespace
}  // namespace syncbn
