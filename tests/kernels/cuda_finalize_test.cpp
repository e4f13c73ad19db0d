// SPDX-License-Identifier: Apache-2.0

// What the CUDA kernels do once per channel is what the layer does, to the bit.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "kernels/cuda/finalize.hpp"
#include "kernels/cuda_on_host.hpp"
#include "support/tensor.hpp"

namespace syncbn::test {
namespace {

namespace cuda = kernels::cuda;

constexpr std::int64_t channels = 700;  // more than threads in the block
constexpr std::size_t length = channels;

struct PerChannel {
  std::vector<double> mean = std::vector<double>(length), var = mean, invstd = mean, scale = mean,
                      shift = mean;
  double count = -1;

  channels::StatisticsArrays arrays() {
    return {mean.data(), var.data(), invstd.data(), scale.data(), shift.data(), &count};
  }
};

// Batches, one of no element and one of one among them, by a layer and by the kernel on the sums
// about the pivot that it left.
void expect_the_layers(BatchNormOptions options) {
  options.eps =
      100;  // in units of which every mean is near what is predicted, so that pivots agree
  BatchNorm layer(channels, Communicator::self(), options);
  for (std::size_t c = 0; c < length; ++c) {
    layer.weight()[c] = 0.5 + 0.001 * static_cast<double>(c);
    layer.bias()[c] = 0.1 * static_cast<double>(c % 9);
  }
  std::vector<double> running_mean(length, 0), running_var(length, 1), sums(2 * length + 1);
  std::vector<double> start_mean(length), start_var(length);
  std::vector<double> pivot(length, 0);
  std::int64_t batches = 0;
  PerChannel got;
  ForwardRecord record;
  for (const std::int64_t n : {8, 1, 0, 5, 8}) {
    SCOPED_TRACE(testing::Message() << "batch of " << n);
    const Shape shape{n, channels, 1};
    const Tensor x = Tensor::normal(DType::f32, shape, Layout::channels_first,
                                    static_cast<std::uint64_t>(10 + n), 0.7);
    Tensor y(DType::f32, shape, Layout::channels_first);
    layer.forward(x.view(), y.view(), record);

    forward_sums(x.view(), pivot, sums);
    cuda::Finalize arguments{.channels = channels,
                             .sums = sums.data(),
                             .dtype = DType::f32,
                             .pivot = pivot.data(),
                             .eps = options.eps,
                             .gamma = layer.weight().data(),
                             .beta = layer.bias().data(),
                             .out = got.arrays(),
                             .running = std::nullopt};
    if (options.track_running_stats) {
      arguments.running = {
          {running_mean.data(), running_var.data(), start_mean.data(), start_var.data()},
          &batches,
          options.momentum};
    }
    cuda::run_finalize(arguments, OnHost{n % 2 == 0 ? Order::forward : Order::backward});
    EXPECT_THAT(got.mean, testing::ElementsAreArray(record.mean()));
    EXPECT_THAT(got.var, testing::ElementsAreArray(record.var()));
    EXPECT_THAT(got.invstd, testing::ElementsAreArray(record.invstd()));
    EXPECT_EQ(got.count, record.count()[0]);
    for (std::size_t c = 0; c < length; ++c) {
      EXPECT_EQ(got.scale[c], layer.weight()[c] * got.invstd[c]);
      EXPECT_EQ(got.shift[c], layer.bias()[c]);
    }
    if (options.track_running_stats) {
      EXPECT_EQ(batches, *layer.num_batches_tracked());
      EXPECT_TRUE(std::ranges::equal(running_mean, layer.running_mean()));
      EXPECT_TRUE(std::ranges::equal(running_var, layer.running_var()));
    }
  }
  EXPECT_EQ(layer.pivot_retries(), 0);  // which the kernel knows nothing of
}

TEST(CudaFinalizeTest, StatisticsAreTheLayers) {
  expect_the_layers({.name = "a", .momentum = 0.1});
  expect_the_layers({.name = "b", .momentum = 0.0});
  expect_the_layers({.name = "c", .momentum = std::nullopt});
  expect_the_layers({.name = "d", .eps = 1e-3, .track_running_stats = false});
}

TEST(CudaFinalizeTest, WithoutParametersScaleIsOneAndShiftZero) {
  const std::vector<double> var(length, 3);
  PerChannel got;
  const std::vector<double> mean(length, 7);
  cuda::run_step(channels::TakeRunningStatistics{.range = {0, channels},
                                                 .mean = mean.data(),
                                                 .var = var.data(),
                                                 .eps = 1,
                                                 .gamma = {},
                                                 .beta = {},
                                                 .out = got.arrays()},
                 OnHost{}, "");
  EXPECT_EQ(got.mean, mean);
  EXPECT_EQ(got.var, var);
  EXPECT_EQ(got.count, 0);
  EXPECT_EQ(got.invstd, std::vector<double>(length, 0.5));
  EXPECT_EQ(got.scale, std::vector<double>(length, 0.5));
  EXPECT_EQ(got.shift, std::vector<double>(length, 0));
}

TEST(CudaFinalizeTest, GradientsAreAddedToThoseThatWereThere) {
  std::vector<double> sums(2 * length + 1), own(2 * length + 1);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    sums[i] = static_cast<double>(i);
    own[i] = 2;
  }
  sums.back() = 16;
  const std::vector<double> invstd(length, 0.5);
  std::vector<double> mean_dz(length), grad_slope(length), dgamma(length, 1), dbeta(length, 1);
  const auto run = [&](double* gamma, double* beta) {
    cuda::run_finalize_backward({channels, sums.data(), invstd.data(), own.data(), false,
                                 mean_dz.data(), grad_slope.data(), gamma, beta},
                                OnHost{});
  };
  run(dgamma.data(), dbeta.data());
  EXPECT_EQ(mean_dz[3], 3.0 / 16);
  EXPECT_EQ(grad_slope[3], (channels + 3.0) / 16 / 4);
  EXPECT_EQ(dgamma, std::vector<double>(length, 1 + 2 * 0.5));
  EXPECT_EQ(dbeta, std::vector<double>(length, 1 + 2));
  sums.back() = 0;  // nobody has an element: sums are 0
  std::fill(sums.begin(), sums.end(), 0);
  run(nullptr, nullptr);
  EXPECT_EQ(mean_dz, std::vector<double>(length, 0));
}

TEST(CudaFinalizeTest, AFingerprintIsTheSumOfThoseOfEveryChannel) {
  const Tensor values = Tensor::normal(DType::f64, {5, channels, 1}, Layout::channels_first, 1, 1);
  const auto array = [&](std::int64_t row) {
    std::vector<double> all(length);
    for (std::int64_t c = 0; c < channels; ++c) {
      all[static_cast<std::size_t>(c)] = values.at(row, c, 0);
    }
    return all;
  };
  const std::vector<double> pivot = array(0), mean = array(1), var = array(2), gamma = array(3),
                            beta = array(4);
  std::uint64_t expected = 0;
  for (std::size_t c = 0; c < length; ++c) {
    const auto number = static_cast<std::int64_t>(c);
    expected += channels::history_of(number, pivot[c], mean[c], var[c]) +
                channels::parameters_of(number, gamma[c], beta[c]);
  }
  std::uint64_t print = 1;
  cuda::run_fingerprint(
      {channels, pivot.data(), mean.data(), var.data(), gamma.data(), beta.data(), &print},
      OnHost{});
  EXPECT_EQ(print, expected);
}

}  // namespace
}  // namespace syncbn::test
