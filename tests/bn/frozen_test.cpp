// SPDX-License-Identifier: Apache-2.0
//
// Backward through a layer that normalizes with its running statistics.

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;

constexpr std::int64_t channels = 3;

StateDict trained_state() {
  StateDict state;
  state.tensors["weight"] = StateTensor::from(std::vector<double>{0.5, -2, 1.5});
  state.tensors["bias"] = StateTensor::from(std::vector<double>{0.1, 0, -0.3});
  state.tensors["running_mean"] = StateTensor::from(std::vector<double>{0.2, -1, 4});
  state.tensors["running_var"] = StateTensor::from(std::vector<double>{2, 0.25, 1});
  state.tensors["num_batches_tracked"] = StateTensor::from(std::int64_t{7});
  return state;
}

/// A rank's x and dy; rank 0 of several has none.
struct Shard {
  Tensor x, dy, y, dx;

  explicit Shard(const Communicator& group)
      : x(Tensor::normal(DType::f64, shape(group), Layout::channels_first, seed(group), 0.5)),
        dy(Tensor::normal(DType::f64, shape(group), Layout::channels_first, seed(group) + 1)),
        y(x),
        dx(x) {}

  static Shape shape(const Communicator& group) {
    return {group.size() == 1 ? 4 : 2 * group.rank(), channels, 6};
  }
  static std::uint64_t seed(const Communicator& group) {
    return static_cast<std::uint64_t>(10 * group.rank());
  }
};

TEST(Frozen, GradientsAreThoseOfAnAffineFunction) {
  for (const auto reproducibility : {Reproducibility::rank_consistent, Reproducibility::exact}) {
    test::on_ranks([&](const Communicator& group) {
      BatchNorm layer(
          channels, group,
          {.activation = Activation::leaky_relu(0.2), .reproducibility = reproducibility});
      layer.load_state(trained_state());
      Shard shard(group);
      ForwardRecord record;
      const std::int64_t before = group.counters().exchanges;
      layer.infer(shard.x.view(), shard.y.view(), record);
      layer.backward(record, shard.x.view(), shard.dy.view(), shard.dx.view());
      EXPECT_EQ(group.counters().exchanges, before) << "it is local";
      for (std::size_t c = 0; c < channels; ++c) {
        const double invstd = 1 / std::sqrt(layer.running_var()[c] + 1e-5);
        double dgamma = 0, dbeta = 0;
        for (std::int64_t n = 0; n < shard.x.shape().n; ++n) {
          for (std::int64_t s = 0; s < 6; ++s) {
            const auto at = static_cast<std::int64_t>(c);
            const double normalized = (shard.x.at(n, at, s) - layer.running_mean()[c]) * invstd;
            const double z = normalized * layer.weight()[c] + layer.bias()[c];
            const double dz = shard.dy.at(n, at, s) * (z > 0 ? 1 : 0.2);
            EXPECT_NEAR(shard.y.at(n, at, s), z > 0 ? z : 0.2 * z, 1e-12);
            EXPECT_NEAR(shard.dx.at(n, at, s), dz * invstd * layer.weight()[c], 1e-12);
            dgamma += dz * normalized;
            dbeta += dz;
          }
        }
        EXPECT_NEAR(layer.weight_grad()[c], dgamma, 1e-11);
        EXPECT_NEAR(layer.bias_grad()[c], dbeta, 1e-11);
      }
      StateDict state;
      layer.save_state(state);
      EXPECT_EQ(state, trained_state()) << "statistics stay as they are";
    });
  }
}

TEST(Frozen, GradientsOfTheGroupAreItsSum) {
  for (const auto reproducibility : {Reproducibility::rank_consistent, Reproducibility::exact}) {
    test::on_ranks([&](const Communicator& group) {
      BatchNorm local(channels, group, {.reproducibility = reproducibility});
      BatchNorm shared(
          channels, group,
          {.parameter_gradients = GradientScope::group, .reproducibility = reproducibility});
      Shard shard(group);
      for (BatchNorm* layer : {&local, &shared}) {
        layer->load_state(trained_state());
        ForwardRecord record;
        layer->infer(shard.x.view(), shard.y.view(), record);
        layer->backward(record, shard.x.view(), shard.dy.view(), shard.dx.view());
      }
      std::vector<double> sums(local.weight_grad().begin(), local.weight_grad().end());
      group.all_reduce(sums);
      for (std::size_t c = 0; c < channels; ++c) {
        EXPECT_NEAR(shared.weight_grad()[c], sums[c], 1e-11);
      }
    });
  }
}

TEST(Frozen, RanksMayInferMoreOrLess) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(channels, group);
    Shard shard(group);
    ForwardRecord record;
    for (int i = 0; i <= group.rank(); ++i) {
      layer.infer(shard.x.view(), shard.y.view(), record);
    }
    EXPECT_NO_THROW(layer.forward(shard.x.view(), shard.y.view(), record));
    EXPECT_NO_THROW(layer.backward(record, shard.x.view(), shard.dy.view(), shard.dx.view()));
  });
}

TEST(Frozen, TakesAResidual) {
  const Communicator self = Communicator::self();
  BatchNorm layer(channels, self, {.activation = Activation::relu});
  layer.load_state(trained_state());
  Shard shard(self);
  Tensor dresidual = shard.x;
  ForwardRecord record;
  layer.infer(shard.x.view(), shard.y.view(), record, {.residual = shard.dy.view()});
  layer.backward(record, shard.x.view(), shard.dy.view(), shard.dx.view(),
                 {.y = shard.y.view(), .dresidual = dresidual.view()});
  for (std::int64_t n = 0; n < 4; ++n) {
    const bool passed = shard.y.at(n, 1, 0) > 0;
    const double scale = -2 / std::sqrt(0.25 + 1e-5);
    EXPECT_EQ(dresidual.at(n, 1, 0), passed ? shard.dy.at(n, 1, 0) : 0);
    EXPECT_NEAR(shard.dx.at(n, 1, 0), passed ? scale * shard.dy.at(n, 1, 0) : 0, 1e-12);
  }
}

TEST(Frozen, WantsRunningStatistics) {
  const Communicator self = Communicator::self();
  BatchNorm layer(channels, self, {.track_running_stats = false});
  Shard shard(self);
  ForwardRecord record;
  EXPECT_THROW(layer.infer(shard.x.view(), shard.y.view(), record), NotConfigured);
  EXPECT_TRUE(record.is_empty());
}

}  // namespace
}  // namespace syncbn
