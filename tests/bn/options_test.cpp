// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;
using testing::DoubleNear;
using testing::Each;
using testing::HasSubstr;

/// One channel; each rank's shard holds `values` of its own.
Tensor column(const std::vector<double>& values) {
  Tensor x(DType::f64, {static_cast<std::int64_t>(values.size()), 1, 1}, Layout::channels_first);
  for (std::size_t i = 0; i < values.size(); ++i) {
    x.set(static_cast<std::int64_t>(i), 0, 0, values[i]);
  }
  return x;
}

Tensor forward(BatchNorm& layer, const Tensor& x) {
  Tensor y(x.dtype(), x.shape(), x.layout());
  ForwardRecord record;
  layer.forward(x.view(), y.view(), record);
  return y;
}

/// On rank 0 only; the others' shards are empty.
Tensor on_first(const Communicator& group, const std::vector<double>& values) {
  return column(group.rank() == 0 ? values : std::vector<double>{});
}

TEST(Options, RunningStatisticsAreExponentialAverages) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(1, group, {.momentum = 0.25});
    forward(layer, on_first(group, {1, 3}));  // mean 2, unbiased variance 2
    EXPECT_DOUBLE_EQ(layer.running_mean()[0], 0.25 * 2);
    EXPECT_DOUBLE_EQ(layer.running_var()[0], 0.75 * 1 + 0.25 * 2);
    EXPECT_EQ(*layer.num_batches_tracked(), 1);
  });
}

TEST(Options, NoMomentumAveragesAllBatches) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(1, group, {.momentum = std::nullopt});
    for (const double mean : {2.0, 4.0, 9.0}) {
      forward(layer, on_first(group, {mean - 1, mean + 1}));
    }
    EXPECT_DOUBLE_EQ(layer.running_mean()[0], 5);
    EXPECT_DOUBLE_EQ(layer.running_var()[0], 2);
  });
}

TEST(Options, NumbersOfChannelsThatCannotBeAreRefused) {
  for (const std::int64_t channels : {std::int64_t{-1}, std::int64_t{0}, Shape::most_channels + 1,
                                      std::numeric_limits<std::int64_t>::max()}) {
    EXPECT_THROW(BatchNorm(channels, Communicator::self()), InvalidArgument) << channels;
  }
}

TEST(Options, WithoutAffineThereAreNoParameters) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(1, group, {.eps = 0, .affine = false});
    EXPECT_TRUE(layer.weight().empty());
    EXPECT_TRUE(layer.bias_grad().empty());
    const Tensor x = on_first(group, {-3, 3});
    const Tensor y = forward(layer, x);
    if (group.rank() == 0) {
      EXPECT_DOUBLE_EQ(y.at(0, 0, 0), -1);
      EXPECT_DOUBLE_EQ(y.at(1, 0, 0), 1);
    }
  });
}

TEST(Options, InferUsesTheRunningStatistics) {
  BatchNorm layer(1, Communicator::self(), {.eps = 0});
  layer.running_mean()[0] = 10;
  layer.running_var()[0] = 4;
  layer.weight()[0] = 3;
  layer.bias()[0] = 1;
  const Tensor x = column({12});
  Tensor y = x;
  layer.infer(x.view(), y.view());
  EXPECT_DOUBLE_EQ(y.at(0, 0, 0), 4);
  layer.infer(x.view(), y.view(), {.residual = x.view()});
  EXPECT_DOUBLE_EQ(y.at(0, 0, 0), 16);
  EXPECT_EQ(*layer.num_batches_tracked(), 0);
}

TEST(Options, InferWithoutRunningStatisticsUsesTheGroupsBatch) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(1, group, {.eps = 0, .track_running_stats = false});
    EXPECT_TRUE(layer.running_mean().empty());
    const double mine = group.rank();
    const Tensor x = column({mine, mine});
    Tensor y = x;
    layer.infer(x.view(), y.view());
    if (group.size() > 1) {
      const double mean = (group.size() - 1) / 2.0;
      const double var = (group.size() * group.size() - 1) / 12.0;
      EXPECT_NEAR(y.at(0, 0, 0), (mine - mean) / std::sqrt(var), 1e-12);
    }
  });
}

TEST(Options, OneElementGivesBetaAndNoVariance) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(1, group);
    layer.bias()[0] = 7;
    const Tensor x = on_first(group, {42});
    Tensor y(DType::f64, x.shape(), x.layout());
    Tensor dx(DType::f64, x.shape(), x.layout());
    ForwardRecord record;
    layer.forward(x.view(), y.view(), record);
    layer.backward(record, x.view(), x.view(), dx.view());
    if (group.rank() == 0) {
      EXPECT_DOUBLE_EQ(y.at(0, 0, 0), 7);
      EXPECT_DOUBLE_EQ(dx.at(0, 0, 0), 0);
    }
    EXPECT_DOUBLE_EQ(layer.running_mean()[0], 4.2);
    EXPECT_DOUBLE_EQ(layer.running_var()[0], 1) << "one element has no unbiased variance";
    EXPECT_EQ(*layer.num_batches_tracked(), 1);
  });
}

TEST(Options, AConstantChannelWithoutEpsGivesBeta) {
  BatchNorm layer(1, Communicator::self(), {.eps = 0});
  layer.bias()[0] = 7;
  for (const Tensor& x : {column({3, 3, 3}), column({3})}) {
    Tensor y = forward(layer, x);
    EXPECT_DOUBLE_EQ(y.at(0, 0, 0), 7);
  }
  layer.running_var()[0] = 0;
  const Tensor x = column({3});
  Tensor y = x;
  layer.infer(x.view(), y.view());
  EXPECT_DOUBLE_EQ(y.at(0, 0, 0), 7);
}

TEST(Options, NoElementsAnywhereMoveNothing) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(1, group);
    const Tensor x = column({});
    Tensor y = x, dx = x;
    ForwardRecord record;
    layer.forward(x.view(), y.view(), record);
    layer.backward(record, x.view(), x.view(), dx.view());
    EXPECT_EQ(layer.running_mean()[0], 0);
    EXPECT_EQ(layer.running_var()[0], 1);
    EXPECT_EQ(*layer.num_batches_tracked(), 0);
    EXPECT_EQ(layer.weight_grad()[0], 0);
  });
}

TEST(Options, GroupGradientsAreTheSumOfTheLocalOnes) {
  test::on_ranks([](const Communicator& group) {
    const Tensor x =
        Tensor::normal(DType::f64, {4, 1, 3}, Layout::channels_first, 1, 0, 1, 4 * group.rank());
    const Tensor dy =
        Tensor::normal(DType::f64, {4, 1, 3}, Layout::channels_first, 2, 0, 1, 4 * group.rank());
    Tensor y = x, dx = x;
    BatchNorm local(1, group);
    BatchNorm whole(1, group, {.parameter_gradients = GradientScope::group});
    ForwardRecord record;
    for (BatchNorm* layer : {&local, &whole}) {
      layer->forward(x.view(), y.view(), record);
      layer->backward(record, x.view(), dy.view(), dx.view());
    }
    std::vector<double> sum = {local.weight_grad()[0], local.bias_grad()[0]};
    group.all_reduce(sum);
    EXPECT_NEAR(whole.weight_grad()[0], sum[0], 1e-13);
    EXPECT_NEAR(whole.bias_grad()[0], sum[1], 1e-13);
  });
}

TEST(Options, BadOnesAreRefused) {
  const auto layer = [](std::int64_t channels, BatchNormOptions options) {
    return test::failure_of<InvalidArgument>(
        [&] { BatchNorm(channels, Communicator::self(), options); });
  };
  EXPECT_THAT(layer(0, {}), HasSubstr("0 channels"));
  EXPECT_THAT(layer(1, {.eps = -1}), HasSubstr("eps"));
  EXPECT_THAT(layer(1, {.eps = std::nan("")}), HasSubstr("eps"));
  EXPECT_THAT(layer(1, {.momentum = 1.5}), HasSubstr("momentum"));
}

TEST(Options, BadTensorsAreRefusedAndChangeNothing) {
  BatchNorm layer(2, Communicator::self());
  ForwardRecord record;
  Tensor x(DType::f32, {2, 2, 3}, Layout::channels_first);
  Tensor other_type(DType::f64, {2, 2, 3}, Layout::channels_first);
  Tensor other_layout(DType::f32, {2, 2, 3}, Layout::channels_last);
  Tensor other_channels(DType::f32, {2, 3, 3}, Layout::channels_first);
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { layer.forward(other_channels.view(), x.view(), record); }),
              HasSubstr("3 channels"));
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { layer.forward(x.view(), other_type.view(), record); }),
              HasSubstr("y is n=2 c=2 s=3 f64"));
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] {
                layer.forward(x.view(), x.view(), record, {.residual = other_layout.view()});
              }),
              HasSubstr("residual"));
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { layer.backward(record, x.view(), x.view(), x.view()); }),
              HasSubstr("the record is empty"));
  EXPECT_EQ(*layer.num_batches_tracked(), 0);

  Tensor good = Tensor::normal(DType::f32, {2, 2, 3}, Layout::channels_first, 1);
  Tensor other = good;
  layer.forward(good.view(), x.view(), record, {.residual = good.view()});
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { layer.backward(record, good.view(), good.view(), x.view()); }),
              HasSubstr("added a residual"));
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] {
                layer.backward(record, good.view(), good.view(), other.view(),
                               {.y = x.view(), .dresidual = other.view()});
              }),
              HasSubstr("the same memory"));
  BatchNorm stranger(2, Communicator::self(), {.name = "stranger"});
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { stranger.backward(record, good.view(), good.view(), x.view()); }),
              HasSubstr("of a forward of layer"));
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] {
                layer.backward(record, other_type.view(), other_type.view(), other_type.view());
              }),
              HasSubstr("not the forward's"));
  EXPECT_THAT(layer.weight_grad(), Each(DoubleNear(0, 0)));
}

TEST(Options, ImpossibleViewsAreRefused) {
  float data = 0;
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] {
                TensorView(&data, {-1, 1, 1});
              }),
              HasSubstr("n=-1"));
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] {
                TensorView(&data, {1, 0, 1});
              }),
              HasSubstr("c=0"));
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] {
                TensorView(static_cast<float*>(nullptr), {1, 1, 1});
              }),
              HasSubstr("no data"));
  const std::int64_t large = std::int64_t{1} << 40;
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] {
                TensorView(&data, {large, large, 1});
              }),
              HasSubstr("63 bits"));
  EXPECT_NO_THROW(TensorView(static_cast<float*>(nullptr), {0, 3, 5}));
}

}  // namespace
}  // namespace syncbn
