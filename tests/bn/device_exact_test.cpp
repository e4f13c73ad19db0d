// SPDX-License-Identifier: Apache-2.0

// Reproducibility::exact on a device: every rank's part of the results has the bits that BatchNorm
// on the host gives it in one process with the whole batch.

#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/device.hpp"
#include "bn/exact_steps.hpp"
#include "bn/placed.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Batch;
using test::count_differences;
using test::differences;
using test::Placed;
using test::Results;
using test::Setting;
using test::Shard;
using test::shard_of;
using test::Tensor;
using test::Whole;
using testing::HasSubstr;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr CudaStream stream = nullptr;

/// Loads gamma and beta as a state, the way to write to a device.
void load_parameters(BatchNorm& layer, const Setting& setting) {
  StateDict state;
  layer.save_state(state, {}, stream);
  state.tensors["weight"] = StateTensor::from(test::gamma_of(setting));
  state.tensors["bias"] = StateTensor::from(test::beta_of(setting));
  layer.load_state(state, {}, stream);
}

/// Collective. What BatchNorm makes of a shard of the batches.
Results train_on_device(const Communicator& group, const Setting& setting,
                        const std::vector<Batch>& batches, const Shard& shard) {
  BatchNorm layer(setting.shape.c, DeviceCommunicator::staged(group), test::options_of(setting));
  load_parameters(layer, setting);
  const std::vector<float> weights =
      setting.weighted ? test::weights_of(setting, shard) : std::vector<float>{};
  const test::DeviceMemory weight_memory(std::as_bytes(std::span(weights)));
  const PositionWeights weight(static_cast<const float*>(weight_memory.data()), weights.size());
  Results results;
  ForwardRecord record;
  for (const Batch& batch : batches) {
    const Tensor own = batch.x.samples(shard.begin, shard.end);
    Placed x(own), dy(batch.dy.samples(shard.begin, shard.end));
    Placed residual(batch.residual.samples(shard.begin, shard.end));
    Placed y(own), dx(own), dresidual(own);
    if (setting.in_place) {
      layer.forward_in_place(y.view(), record, {.position_weights = weight, .stream = stream});
      layer.backward_in_place(record, y.view(), dy.view(), dx.view(),
                              {.position_weights = weight, .stream = stream});
    } else if (setting.residual) {
      layer.forward(x.view(), y.view(), record,
                    {.residual = residual.view(), .position_weights = weight, .stream = stream});
      layer.backward(record, x.view(), dy.view(), dx.view(),
                     {.y = y.view(),
                      .dresidual = dresidual.view(),
                      .position_weights = weight,
                      .stream = stream});
      results.tensors.push_back(dresidual.fetch());
    } else {
      layer.forward(x.view(), y.view(), record, {.position_weights = weight, .stream = stream});
      layer.backward(record, x.view(), dy.view(), dx.view(),
                     {.position_weights = weight, .stream = stream});
    }
    results.tensors.push_back(y.fetch());
    results.tensors.push_back(dx.fetch());
    for (const std::span<const double> values : std::initializer_list<std::span<const double>>{
             record.count(), record.mean(), record.var(), layer.running_mean(), layer.running_var(),
             layer.weight_grad(), layer.bias_grad()}) {
      const std::vector<double> fetched = test::fetch(values);
      results.shared.insert(results.shared.end(), fetched.begin(), fetched.end());
    }
  }
  return results;
}

/// Likewise of BatchNorm, but for what a device does not tell.
Results train_on_host(const Communicator& group, const Setting& setting,
                      const std::vector<Batch>& batches, const Shard& shard) {
  Results results = test::train(group, setting, batches, shard);
  results.retries = 0;
  return results;
}

void expect_the_bits_of_the_host(const std::vector<Setting>& settings) {
  test::expect_the_bits_of_one_process(settings, train_on_device, train_on_host);
}

constexpr DType all_types[] = {DType::f32, DType::f64, DType::f16, DType::bf16};
constexpr Layout both_layouts[] = {Layout::channels_first, Layout::channels_last};

class ExactDeviceLayer : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = test::no_device(); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }
};

TEST_F(ExactDeviceLayer, GivesTheBitsOfTheHostsInOneProcess) {
  std::vector<Setting> settings;
  for (const DType dtype : all_types) {
    for (const Layout layout : both_layouts) {
      for (const Shape& shape :
           {Shape{11, 5, 37}, Shape{9, 1, 7}, Shape{7, 64, 2}, Shape{6, 3, 784}}) {
        settings.push_back({.dtype = dtype, .layout = layout, .shape = shape});
      }
      settings.push_back(
          {.dtype = dtype, .layout = layout, .activation = Activation::relu, .residual = true});
      settings.push_back({.dtype = dtype,
                          .layout = layout,
                          .activation = Activation::leaky_relu(0.1),
                          .in_place = true});
      settings.push_back({.dtype = dtype,
                          .layout = layout,
                          .activation = Activation::leaky_relu(0.1),
                          .weighted = true,
                          .tracked = false});
    }
  }
  expect_the_bits_of_the_host(settings);
}

// Larger than one block of the kernels.
TEST_F(ExactDeviceLayer, DoesNotDependOnHowKernelsCutTensors) {
  std::vector<Setting> settings;
  for (const Layout layout : both_layouts) {
    for (const Shape& shape : {Shape{9, 20, 400}, Shape{90, 300, 3}, Shape{4, 1, 20001}}) {
      settings.push_back({.layout = layout, .shape = shape});
    }
    settings.push_back({.dtype = DType::bf16, .layout = layout, .shape = {5, 513, 4}});
  }
  expect_the_bits_of_the_host(settings);
}

// The control: by default some bits do depend on the ranks, and this test notices.
TEST_F(ExactDeviceLayer, IsNeededForThat) {
  const Setting setting{.shape = {23, 40, 37}, .reproducibility = Reproducibility::rank_consistent};
  const Whole whole(setting, train_on_device);
  test::on_ranks([&](const Communicator& group) {
    if (group.size() > 1) {
      EXPECT_GT(differences(group, whole, setting, train_on_device), 0);
    } else {
      EXPECT_EQ(differences(group, whole, setting, train_on_device), 0);
    }
  });
}

TEST_F(ExactDeviceLayer, HoldsForMeansFarFromZero) {
  expect_the_bits_of_the_host(test::with_means_far_from_zero());
}

TEST_F(ExactDeviceLayer, HoldsWhenTermsLeaveTheirWindows) {
  expect_the_bits_of_the_host(test::with_outliers());
}

TEST_F(ExactDeviceLayer, HoldsForWeightsFarFromOne) {
  expect_the_bits_of_the_host(test::with_weights_far_from_one());
}

TEST_F(ExactDeviceLayer, HoldsAtTheEndsOfDouble) {
  expect_the_bits_of_the_host(test::at_the_ends_of_double());
}

TEST_F(ExactDeviceLayer, HoldsForInfinitiesAndNaNs) {
  expect_the_bits_of_the_host(test::with_infinities_and_nans());
}

TEST_F(ExactDeviceLayer, HasTheOwnGradientsOfTheHosts) {
  test::on_ranks([](const Communicator& group) {
    for (const DType dtype : all_types) {
      for (const double outlier : {0.0, 1e4, nan}) {
        const Setting setting{
            .dtype = dtype, .gradient_outlier = outlier, .scope = GradientScope::local};
        const std::vector<Batch> batches = test::batches_of(setting);
        const Shard shard = shard_of(1, setting.shape.n, group.rank(), group.size());
        const Results host = train_on_host(group, setting, batches, shard);
        const Results device = train_on_device(group, setting, batches, shard);
        EXPECT_EQ(count_differences(device, host, {0, shard.end - shard.begin}), 0)
            << to_text(setting);
      }
    }
  });
}

TEST_F(ExactDeviceLayer, GoesOnFromAStateOfTheHosts) {
  const Setting setting;
  const std::vector<Batch> batches = test::batches_of(setting);
  const Batch& batch = batches.front();
  BatchNorm host(setting.shape.c, Communicator::self(), test::options_of(setting));
  BatchNorm device(setting.shape.c, DeviceCommunicator::staged(Communicator::self()),
                   test::options_of(setting));
  ForwardRecord record;
  ForwardRecord device_record;
  Tensor y = batch.x, dx = batch.x;
  Placed x(batch.x), dy(batch.dy), device_y(batch.x), device_dx(batch.x);
  for (int step = 0; step < 2; ++step) {  // the second without windows for gradients
    host.forward(batch.x.view(), y.view(), record);
    host.backward(record, batch.x.view(), batch.dy.view(), dx.view());
    device.forward(x.view(), device_y.view(), device_record, {.stream = stream});
    device.backward(device_record, x.view(), dy.view(), device_dx.view(), {.stream = stream});
    StateDict state;
    host.save_state(state);
    host.load_state(state);
    device.load_state(state, {}, stream);
    EXPECT_EQ(device_y.fetch(), y) << step;
    EXPECT_EQ(device_dx.fetch(), dx) << step;
  }
}

TEST_F(ExactDeviceLayer, SendsAsManyMessagesInEveryStep) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(3, DeviceCommunicator::staged(group),
                    {.reproducibility = Reproducibility::exact});
    ForwardRecord record;
    for (const double mean : {0.0, 0.0, 1e6}) {
      const Tensor drawn = Tensor::normal(DType::f32, {4, 3, 5}, Layout::channels_first, 1, mean);
      Placed x(drawn), y(drawn), dx(drawn);
      const std::int64_t before = group.counters().exchanges;
      layer.forward(x.view(), y.view(), record, {.stream = stream});
      EXPECT_EQ(group.counters().exchanges - before, group.size() == 1 ? 0 : 5);
      layer.backward(record, x.view(), x.view(), dx.view(), {.stream = stream});
      EXPECT_EQ(group.counters().exchanges - before, group.size() == 1 ? 0 : 8);
    }
  });
}

TEST_F(ExactDeviceLayer, OnOneRankAloneIsNoticed) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    BatchNorm layer(4, DeviceCommunicator::staged(group),
                    {.reproducibility = group.rank() == 0 ? Reproducibility::exact
                                                          : Reproducibility::rank_consistent});
    const Tensor drawn = Tensor::normal(DType::f32, {2, 4, 3}, Layout::channels_first, 1);
    Placed x(drawn), y(drawn);
    ForwardRecord record;
    EXPECT_THAT(test::failure_of<CommError>(
                    [&] { layer.forward(x.view(), y.view(), record, {.stream = stream}); }),
                HasSubstr("the ranks disagree"));
  });
}

}  // namespace
}  // namespace syncbn
