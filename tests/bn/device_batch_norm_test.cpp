// SPDX-License-Identifier: Apache-2.0

// The layer for devices gives what the layer for the host gives: on a CUDA device, or with the host
// in its place.

#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/device.hpp"
#include "bn/placed.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"
#include "support/whole_batch.hpp"

namespace syncbn {
namespace {

using test::Placed;
using test::Tensor;
using testing::HasSubstr;

constexpr std::int64_t channels = 5;
constexpr CudaStream stream = nullptr;

enum class Extras { none, residual, weight, in_place, in_place_weight };

struct Setting {
  DType dtype;
  Layout layout;
  Extras extras;
  BatchNormOptions options;
  double mean = 0.5;
};

Tensor drawn(const Setting& setting, Shape shape, std::uint64_t seed, double mean) {
  return Tensor::normal(setting.dtype, shape, setting.layout, seed, mean);
}

/// A step's tensors of one rank, and what comes out of it.
struct Step {
  Tensor x, residual, dy;
  Tensor y, dx, dresidual;
  std::vector<float> weight;

  Step(const Setting& setting, Shape shape, std::uint64_t seed)
      : x(drawn(setting, shape, seed, setting.mean)),
        residual(drawn(setting, shape, seed + 1, 0)),
        dy(drawn(setting, shape, seed + 2, 0.1)),
        y(x),
        dx(x),
        dresidual(x) {
    if (setting.extras == Extras::weight || setting.extras == Extras::in_place_weight) {
      for (std::int64_t i = 0; i < shape.per_channel(); ++i) {
        weight.push_back(static_cast<float>(i % 3));
      }
    }
  }
};

/// A PlacedStep is a copy of a step in the memory of the device.
struct PlacedStep {
  std::int64_t x_positions;
  Placed x, residual, dy;
  Placed y, dx, dresidual;
  std::optional<test::DeviceMemory> weight;

  explicit PlacedStep(const Step& step)
      : x_positions(step.x.shape().per_channel()),
        x(step.x),
        residual(step.residual),
        dy(step.dy),
        y(step.y),
        dx(step.dx),
        dresidual(step.dresidual) {
    if (!step.weight.empty()) {
      weight.emplace(std::as_bytes(std::span(step.weight)));
    }
  }

  PositionWeights weights() const {
    return weight ? PositionWeights(static_cast<const float*>(weight->data()),
                                    static_cast<std::size_t>(x_positions))
                  : PositionWeights();
  }
};

void expect_near(const Tensor& actual, const Tensor& expected, double tolerance, const char* name) {
  const Shape& shape = expected.shape();
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t c = 0; c < shape.c; ++c) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        ASSERT_NEAR(actual.at(n, c, s), expected.at(n, c, s), tolerance)
            << name << " at " << n << ", " << c << ", " << s;
      }
    }
  }
}

void expect_near(std::span<const double> on_device, std::span<const double> expected,
                 double tolerance, const char* name) {
  const std::vector<double> actual = test::fetch(on_device);
  ASSERT_EQ(actual.size(), expected.size()) << name;
  for (std::size_t c = 0; c < expected.size(); ++c) {
    ASSERT_NEAR(actual[c], expected[c], tolerance * (1 + std::fabs(expected[c])))
        << name << " of channel " << c;
  }
}

std::int64_t batches_of(BatchNorm& layer) {
  std::int64_t batches = 0;
  test::fetch(layer.num_batches_tracked(), std::as_writable_bytes(std::span(&batches, 1)));
  return batches;
}

bool is_in_place(const Setting& setting) {
  return setting.extras == Extras::in_place || setting.extras == Extras::in_place_weight;
}

/// Both layers through three steps. Rank r has r samples more than rank 0, which has none if there
/// are others.
void compare(const Communicator& ranks, const Setting& setting) {
  BatchNorm host(channels, ranks, setting.options);
  BatchNorm device(channels, DeviceCommunicator::staged(ranks), setting.options);
  ForwardRecord host_record;
  ForwardRecord device_record;
  const Shape shape{ranks.size() == 1 ? 3 : 2 * ranks.rank(), channels, 7};
  // Sums of floats, of at most 200 elements in all, about a pivot within a few deviations; terms
  // and results are rounded to the type.
  const double tolerance =
      setting.dtype == DType::f64 ? 1e-12 : 200 * 0x1p-24 + 8 * test::epsilon(setting.dtype);
  for (int i = 0; i < 3; ++i) {
    const auto seed = static_cast<std::uint64_t>(100 * i + 10 * ranks.rank());
    Step a(setting, shape, seed);
    PlacedStep b(a);
    if (setting.extras == Extras::residual) {
      host.forward(a.x.view(), a.y.view(), host_record, {.residual = a.residual.view()});
      host.backward(host_record, a.x.view(), a.dy.view(), a.dx.view(),
                    {.y = a.y.view(), .dresidual = a.dresidual.view()});
      device.forward(b.x.view(), b.y.view(), device_record,
                     {.residual = b.residual.view(), .stream = stream});
      device.backward(device_record, b.x.view(), b.dy.view(), b.dx.view(),
                      {.y = b.y.view(), .dresidual = b.dresidual.view(), .stream = stream});
      expect_near(b.dresidual.fetch(), a.dresidual, tolerance, "dresidual");
    } else if (is_in_place(setting)) {
      // y begins as x, dx as dy.
      host.forward_in_place(a.y.view(), host_record, {.position_weights = a.weight});
      device.forward_in_place(b.y.view(), device_record,
                              {.position_weights = b.weights(), .stream = stream});
      host.backward_in_place(host_record, a.y.view(), a.dy.view(), a.dx.view(),
                             {.position_weights = a.weight});
      device.backward_in_place(device_record, b.y.view(), b.dy.view(), b.dx.view(),
                               {.position_weights = b.weights(), .stream = stream});
    } else {
      host.forward(a.x.view(), a.y.view(), host_record, {.position_weights = a.weight});
      host.backward(host_record, a.x.view(), a.dy.view(), a.dx.view(),
                    {.position_weights = a.weight});
      device.forward(b.x.view(), b.y.view(), device_record,
                     {.position_weights = b.weights(), .stream = stream});
      device.backward(device_record, b.x.view(), b.dy.view(), b.dx.view(),
                      {.position_weights = b.weights(), .stream = stream});
    }
    expect_near(b.y.fetch(), a.y, tolerance, "y");
    expect_near(b.dx.fetch(), a.dx, tolerance, "dx");
    expect_near(device_record.mean(), host_record.mean(), tolerance, "mean");
    expect_near(device_record.var(), host_record.var(), tolerance, "var");
    expect_near(device_record.invstd(), host_record.invstd(), tolerance, "invstd");
    expect_near(device.weight_grad(), host.weight_grad(), 100 * tolerance, "weight_grad");
    expect_near(device.bias_grad(), host.bias_grad(), 100 * tolerance, "bias_grad");
    expect_near(device.running_mean(), host.running_mean(), tolerance, "running_mean");
    expect_near(device.running_var(), host.running_var(), tolerance, "running_var");
  }
  if (setting.options.track_running_stats) {
    EXPECT_EQ(batches_of(device), 3);
  }
  {
    Step a(setting, shape, 7);
    PlacedStep b(a);
    host.infer(a.x.view(), a.y.view(), {.position_weights = a.weight});
    device.infer(b.x.view(), b.y.view(), {.position_weights = b.weights(), .stream = stream});
    expect_near(b.y.fetch(), a.y, tolerance * (1 + std::fabs(setting.mean)), "inferred y");
  }
}

class DeviceLayer : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = test::no_device(); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }
};

TEST_F(DeviceLayer, GivesWhatTheHostsGives) {
  test::on_ranks([](const Communicator& ranks) {
    for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
      for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
        for (const Extras extras : {Extras::none, Extras::residual, Extras::weight,
                                    Extras::in_place, Extras::in_place_weight}) {
          compare(ranks, {dtype, layout, extras, {.activation = Activation::leaky_relu(0.2)}});
        }
      }
    }
  });
}

TEST_F(DeviceLayer, PassesGradientsThroughFrozenStatistics) {
  test::on_ranks([](const Communicator& ranks) {
    for (const auto& [scope, reproducibility] :
         {std::pair(GradientScope::local, Reproducibility::rank_consistent),
          std::pair(GradientScope::group, Reproducibility::rank_consistent),
          std::pair(GradientScope::local, Reproducibility::exact),
          std::pair(GradientScope::group, Reproducibility::exact)}) {
      const Setting setting{DType::f32,
                            Layout::channels_first,
                            Extras::none,
                            {.activation = Activation::leaky_relu(0.2),
                             .parameter_gradients = scope,
                             .reproducibility = reproducibility}};
      BatchNorm host(channels, ranks, setting.options);
      BatchNorm device(channels, DeviceCommunicator::staged(ranks), setting.options);
      Step a(setting, {2 * ranks.rank() + 1, channels, 7},
             static_cast<std::uint64_t>(ranks.rank()));
      PlacedStep b(a);
      ForwardRecord host_record;
      ForwardRecord device_record;
      host.forward(a.x.view(), a.y.view(), host_record);
      device.forward(b.x.view(), b.y.view(), device_record, {.stream = stream});
      host.infer(a.x.view(), a.y.view(), host_record);
      device.infer(b.x.view(), b.y.view(), device_record, {.stream = stream});
      host.backward(host_record, a.x.view(), a.dy.view(), a.dx.view());
      device.backward(device_record, b.x.view(), b.dy.view(), b.dx.view(), {.stream = stream});
      const double tolerance = 200 * 0x1p-24;
      expect_near(b.y.fetch(), a.y, tolerance, "y");
      expect_near(b.dx.fetch(), a.dx, tolerance, "dx");
      expect_near(device_record.invstd(), host_record.invstd(), tolerance, "invstd");
      expect_near(device.weight_grad(), host.weight_grad(), 100 * tolerance, "weight_grad");
      expect_near(device.bias_grad(), host.bias_grad(), 100 * tolerance, "bias_grad");
      EXPECT_EQ(batches_of(device), 1);
    }
  });
}

TEST_F(DeviceLayer, HasTheSameOptions) {
  test::on_ranks([](const Communicator& ranks) {
    const std::vector<BatchNormOptions> all{{.eps = 0.5},
                                            {.momentum = std::nullopt},
                                            {.momentum = 0.9},
                                            {.affine = false},
                                            {.track_running_stats = false},
                                            {.parameter_gradients = GradientScope::group}};
    for (const BatchNormOptions& options : all) {
      compare(ranks, {DType::f32, Layout::channels_first, Extras::none, options});
    }
  });
}

TEST_F(DeviceLayer, FindsAMeanThatIsFarFromItsStart) {
  test::on_ranks([](const Communicator& ranks) {
    compare(ranks, {.dtype = DType::f64,
                    .layout = Layout::channels_first,
                    .extras = Extras::none,
                    .options = {},
                    .mean = 300});
    BatchNorm layer(channels, DeviceCommunicator::staged(ranks));
    PlacedStep step(
        Step({DType::f32, Layout::channels_first, Extras::none, {}, 1e4}, {4, channels, 50}, 1));
    ForwardRecord record;
    const std::int64_t before = ranks.counters().exchanges;
    layer.forward(step.x.view(), step.y.view(), record, {.stream = stream});
    EXPECT_EQ(ranks.counters().exchanges - before, ranks.size() == 1 ? 0 : 2);
    expect_near(record.mean(), std::vector<double>(channels, 1e4), 1e-4, "mean");
    expect_near(record.var(), std::vector<double>(channels, 1.0), 0.2, "var");
    layer.forward(step.x.view(), step.y.view(), record, {.stream = stream});
    EXPECT_EQ(ranks.counters().exchanges - before, ranks.size() == 1 ? 0 : 3);
  });
}

// Sums of floats about a pivot that is near: 11 roundings of a term at most, see cuda.hpp.
void expect_right_variances(BatchNorm& layer, const Communicator& ranks, double mean, int steps) {
  constexpr double tolerance = 12 * 0x1p-24;
  constexpr Shape shape{32, channels, 64};
  for (int i = 0; i < steps; ++i) {
    const Tensor batch = Tensor::normal(DType::f32, shape, Layout::channels_first,
                                        static_cast<std::uint64_t>(i), mean);
    const test::WholeBatch oracle(batch, {}, {}, 0);
    Placed x(
        batch.samples(32 * ranks.rank() / ranks.size(), 32 * (ranks.rank() + 1) / ranks.size()));
    ForwardRecord record;
    layer.forward(x.view(), x.view(), record, {.stream = stream});
    const std::vector<double> var = test::fetch(record.var());
    for (std::size_t c = 0; c < channels; ++c) {
      const auto expected = static_cast<double>(oracle.var[c]);
      ASSERT_NEAR(var[c], expected, tolerance * expected) << "mean " << mean << ", step " << i;
    }
  }
}

TEST_F(DeviceLayer, TakesLoadedStatisticsForWhatTheyAreWhateverTheirCounter) {
  test::on_ranks([](const Communicator& ranks) {
    for (const double mean : {1e2, 1e4}) {
      for (const std::int64_t batches : {0, 2, 1'000'000}) {
        BatchNorm layer(channels, DeviceCommunicator::staged(ranks));
        StateDict state;
        layer.save_state(state, {}, stream);
        state.tensors["running_mean"] = StateTensor::from(std::vector<double>(channels, mean));
        state.tensors["num_batches_tracked"] = StateTensor::from(batches);
        layer.load_state(state, {}, stream);
        // With 2 it is taken for the sum of two batches that began at 0, until that is forgotten.
        expect_right_variances(layer, ranks, mean, batches == 2 ? 15 : 40);
      }
    }
  });
}

TEST_F(DeviceLayer, FindsTheMeanWithAMomentumOfZero) {
  test::on_ranks([](const Communicator& ranks) {
    BatchNorm layer(channels, DeviceCommunicator::staged(ranks), {.momentum = 0});
    expect_right_variances(layer, ranks, 1e4, 10);
  });
}

TEST_F(DeviceLayer, RecoversNoInputWhereGammaIsZero) {
  BatchNorm layer(channels, DeviceCommunicator::staged(Communicator::self()));
  StateDict state;
  layer.save_state(state, {}, stream);
  const std::vector<double> gamma{1, 0, -2, 1e-300, 3};
  state.tensors["weight"] = StateTensor::from(gamma);
  layer.load_state(state, {}, stream);
  PlacedStep step(
      Step({DType::f32, Layout::channels_first, Extras::none, {}}, {4, channels, 3}, 1));
  ForwardRecord record;
  layer.forward_in_place(step.y.view(), record, {.stream = stream});
  layer.backward_in_place(record, step.y.view(), step.dy.view(), step.dx.view(),
                          {.stream = stream});
  const std::vector<double> gradient = test::fetch(layer.weight_grad());
  const Tensor dx = step.dx.fetch();
  for (std::int64_t c = 0; c < channels; ++c) {
    const bool recovered = std::fabs(gamma[static_cast<std::size_t>(c)]) > 1e-30;
    EXPECT_EQ(gradient[static_cast<std::size_t>(c)] != 0, recovered) << "of channel " << c;
    EXPECT_TRUE(std::isfinite(dx.at(0, c, 0)));
    EXPECT_EQ(dx.at(0, c, 0) != 0, recovered);
  }
}

TEST_F(DeviceLayer, TellsRanksApart) {
  test::on_ranks([](const Communicator& ranks) {
    if (ranks.size() == 1) {
      return;
    }
    BatchNorm layer(channels, DeviceCommunicator::staged(ranks),
                    {.name = ranks.rank() == 0 ? "bn1" : "bn2"});
    PlacedStep step(
        Step({DType::f32, Layout::channels_first, Extras::none, {}}, {2, channels, 3}, 1));
    ForwardRecord record;
    EXPECT_THAT(test::failure_of<CommError>([&] {
                  layer.forward(step.x.view(), step.y.view(), record, {.stream = stream});
                }),
                testing::AllOf(HasSubstr("'bn1'"), HasSubstr("'bn2'")));
    EXPECT_EQ(batches_of(layer), 0);
  });
}

TEST_F(DeviceLayer, TellsHistoriesApart) {
  test::on_ranks([](const Communicator& ranks) {
    if (ranks.size() == 1) {
      return;
    }
    BatchNorm layer(channels, DeviceCommunicator::staged(ranks), {.name = "bn1"});
    PlacedStep step(
        Step({DType::f32, Layout::channels_first, Extras::none, {}}, {2, channels, 3}, 1));
    ForwardRecord record;
    layer.forward(step.x.view(), step.y.view(), record, {.stream = stream});
    layer.forward(step.x.view(), step.y.view(), record, {.stream = stream});
    StateDict state;
    layer.save_state(state, {}, stream);
    if (ranks.rank() == 0) {
      std::vector<double> mean = test::fetch(layer.running_mean());
      mean[1] = std::nextafter(mean[1], 9.0);
      state.tensors["running_mean"] = StateTensor::from(mean);
    }
    layer.load_state(state, {}, stream);
    EXPECT_THAT(test::failure_of<CommError>([&] {
                  layer.forward(step.x.view(), step.y.view(), record, {.stream = stream});
                }),
                HasSubstr("running mean"));
    EXPECT_EQ(batches_of(layer), 2);
  });
}

TEST_F(DeviceLayer, TellsParametersApartUnlessTheyMayDiffer) {
  test::on_ranks([](const Communicator& ranks) {
    if (ranks.size() == 1) {
      return;
    }
    PlacedStep step(
        Step({DType::f32, Layout::channels_first, Extras::none, {}}, {2, channels, 3}, 1));
    for (const char* name : {"weight", "bias"}) {
      const auto forward = [&](bool compare) {
        BatchNorm layer(channels, DeviceCommunicator::staged(ranks.split(0)),
                        {.name = "bn1", .compare_parameters = compare});
        StateDict state;
        layer.save_state(state, {}, stream);
        std::vector<double> values(channels, 0.5);
        values.back() = ranks.rank() == 0 ? 0.5 : std::nextafter(0.5, 1.0);
        state.tensors[name] = StateTensor::from(values);
        layer.load_state(state, {}, stream);
        ForwardRecord record;
        layer.forward(step.x.view(), step.y.view(), record, {.stream = stream});
      };
      EXPECT_NO_THROW(forward(false)) << name;
      EXPECT_THAT([&] { forward(true); },
                  testing::ThrowsMessage<CommError>(HasSubstr("gamma or beta")))
          << name;
    }
  });
}

TEST_F(DeviceLayer, TellsWhoAddsAResidualOrWorksInPlace) {
  test::on_ranks([](const Communicator& ranks) {
    if (ranks.size() == 1) {
      return;
    }
    PlacedStep step(
        Step({DType::f32, Layout::channels_first, Extras::none, {}}, {2, channels, 3}, 1));
    ForwardRecord record;
    const auto layer = [&] {
      return BatchNorm(channels, DeviceCommunicator::staged(ranks.split(0)), {.name = "bn1"});
    };
    const auto forward = [&](BatchNorm one, bool with_residual) {
      if (with_residual) {
        one.forward(step.x.view(), step.y.view(), record,
                    {.residual = step.x.view(), .stream = stream});
      } else {
        one.forward(step.x.view(), step.y.view(), record, {.stream = stream});
      }
    };
    const auto in_place = [&](BatchNorm one) {
      one.forward_in_place(step.x.view(), record, {.stream = stream});
    };
    EXPECT_THAT([&] { forward(layer(), ranks.rank() == 0); },
                testing::ThrowsMessage<CommError>(HasSubstr("forward with a residual of 'bn1'")));
    EXPECT_THAT([&] { ranks.rank() == 0 ? in_place(layer()) : forward(layer(), false); },
                testing::ThrowsMessage<CommError>(HasSubstr("forward in place of 'bn1'")));
  });
}

TEST_F(DeviceLayer, RefusesMemoryThatOverlaps) {
  BatchNorm layer(channels, DeviceCommunicator::staged(Communicator::self()));
  PlacedStep step(
      Step({DType::f32, Layout::channels_first, Extras::none, {}}, {2, channels, 3}, 1));
  ForwardRecord record;
  const TensorView x = step.x.view();
  const Shape half{1, channels, 3};
  auto* elements = static_cast<float*>(x.data());
  const auto view = [&](float* data) {
    return TensorView(data, half, Layout::channels_first, Device::cuda(0));
  };
  const TensorView first = view(elements), shifted = view(elements + 4);
  const TensorView y = view(static_cast<float*>(step.y.view().data()));
  EXPECT_THROW(layer.forward(first, shifted, record, {.stream = stream}), InvalidArgument);
  EXPECT_THROW(layer.infer(first, shifted, {.stream = stream}), InvalidArgument);
  EXPECT_NO_THROW(layer.forward(first, y, record, {.stream = stream}));
  EXPECT_THROW(layer.backward(record, first, first, shifted, {.stream = stream}), InvalidArgument);
}

TEST_F(DeviceLayer, RefusesTensorsThatAreElsewhere) {
  BatchNorm layer(channels, DeviceCommunicator::staged(Communicator::self()));
  BatchNorm host(channels, Communicator::self());
  Step step({DType::f32, Layout::channels_first, Extras::none, {}}, {2, channels, 3}, 1);
  PlacedStep placed(step);
  ForwardRecord record;
  const auto refusal = [](const auto& call) { return test::failure_of<InvalidArgument>(call); };
  EXPECT_THAT(refusal([&] { layer.forward(step.x.view(), placed.y.view(), record); }),
              HasSubstr("x is on cpu (the layer is on cuda:0)"));
  EXPECT_THAT(refusal([&] { layer.forward(placed.x.view(), step.y.view(), record); }),
              HasSubstr("y is on cpu (x is on cuda:0)"));
  EXPECT_THAT(refusal([&] { host.infer(placed.x.view(), placed.y.view()); }),
              HasSubstr("x is on cuda:0 (the layer is on cpu)"));
  // The host's memory, though the view says that it is the device's.
  const TensorView pretended(step.x.view().data(), DType::f32, step.x.shape(),
                             Layout::channels_first, Device::cuda(0));
  EXPECT_THAT(refusal([&] { layer.forward(pretended, placed.y.view(), record); }),
              HasSubstr("x is not in the memory of cuda:0"));
  EXPECT_THAT(refusal([&] { layer.infer(placed.x.view(), pretended); }),
              HasSubstr("y is not in the memory of cuda:0"));
  const std::vector<float> weights(6, 1);
  EXPECT_THAT(refusal([&] {
                layer.forward(placed.x.view(), placed.y.view(), record,
                              {.position_weights = weights});
              }),
              HasSubstr("position_weights is not in the memory of cuda:0"));
  EXPECT_TRUE(record.is_empty());
  EXPECT_EQ(batches_of(layer), 0);
}

TEST_F(DeviceLayer, TakesTheSameHistoryForTheSame) {
  test::on_ranks([](const Communicator& ranks) {
    BatchNorm layer(channels, DeviceCommunicator::staged(ranks), {.name = "bn1"});
    StateDict state;
    layer.save_state(state, {}, stream);
    if (ranks.rank() == 0) {
      layer.load_state(state, {}, stream);
    }
    PlacedStep step(
        Step({DType::f32, Layout::channels_first, Extras::none, {}}, {2, channels, 3}, 1));
    ForwardRecord record;
    layer.forward(step.x.view(), step.y.view(), record, {.stream = stream});
    EXPECT_EQ(batches_of(layer), 1);
  });
}

TEST_F(DeviceLayer, SavesAndLoadsItsState) {
  const DeviceCommunicator self = DeviceCommunicator::staged(Communicator::self());
  PlacedStep step(
      Step({DType::f32, Layout::channels_first, Extras::none, {}}, {4, channels, 3}, 1));
  BatchNorm one(channels, self), other(channels, self), again(channels, self);
  ForwardRecord record;
  one.forward(step.x.view(), step.y.view(), record, {.stream = stream});
  StateDict state;
  one.save_state(state, "bn.", stream);
  state.tensors["bn.weight"] = StateTensor::from(std::vector<double>(channels, 3.0));
  other.load_state(state, "bn.", stream);
  EXPECT_EQ(test::fetch(other.weight()), std::vector<double>(channels, 3.0));
  EXPECT_EQ(batches_of(other), 1);
  StateDict copied;
  other.save_state(copied, "bn.", stream);
  EXPECT_EQ(copied, state);
  state.tensors["bn.running_var"] = StateTensor::from(std::vector<double>(channels, -1.0));
  EXPECT_THROW(again.load_state(state, "bn.", stream), FileError);
  EXPECT_EQ(batches_of(again), 0);
}

TEST_F(DeviceLayer, RefusesWhatDoesNotFit) {
  const DeviceCommunicator self = DeviceCommunicator::staged(Communicator::self());
  EXPECT_THROW(BatchNorm(0, self), InvalidArgument);
  BatchNorm layer(channels, self, {.track_running_stats = false});
  const Setting setting{DType::f32, Layout::channels_first, Extras::none, {}};
  PlacedStep step(Step(setting, {4, channels, 3}, 1)), small(Step(setting, {3, channels, 3}, 1));
  ForwardRecord record;
  EXPECT_TRUE(record.mean().empty());
  BatchNorm relu(channels, self, {.activation = Activation::relu});
  EXPECT_THROW(relu.forward_in_place(step.x.view(), record, {.stream = stream}), InvalidArgument);
  EXPECT_THROW(
      layer.backward(record, step.x.view(), step.dy.view(), step.dx.view(), {.stream = stream}),
      InvalidArgument);
  EXPECT_THROW(layer.forward(step.x.view(), small.y.view(), record, {.stream = stream}),
               InvalidArgument);
  layer.forward(step.x.view(), step.y.view(), record, {.stream = stream});
  EXPECT_THROW(
      layer.backward(record, small.x.view(), small.dy.view(), small.dx.view(), {.stream = stream}),
      InvalidArgument);
  EXPECT_THROW(layer.infer(step.x.view(), step.y.view(), record, {.stream = stream}),
               NotConfigured);
  EXPECT_THROW(layer.communicator(), NotConfigured);
  const std::vector<ForwardCall> calls = {{layer, step.x.view(), step.y.view(), record}};
  EXPECT_THROW(forward_together(calls), NotConfigured);
}

}  // namespace
}  // namespace syncbn
