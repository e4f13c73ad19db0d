// SPDX-License-Identifier: Apache-2.0

// Training that keeps the output only, against training that keeps the input.
//
// y is stored to u_out (2^-24, 2^-8 ...) of |y|, so x_hat = (z - beta) / gamma comes back to
// e = u_out |z / gamma| and a few roundings of the arithmetic, w: 5 w |z / gamma|. dx sees it as
// |scale| (e |b|/n invstd), and b = sum(dz x_hat) sees sum|dz| e. A value at the activation's bend
// does not change sides here: y keeps the sign of z unless it underflows.

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"
#include "support/worst.hpp"

namespace syncbn {
namespace {

using test::Tensor;
using testing::HasSubstr;

constexpr std::int64_t channels = 5;

BatchNorm make_layer(const Communicator& group, Activation activation) {
  BatchNorm layer(channels, group,
                  {.activation = activation, .parameter_gradients = GradientScope::group});
  for (std::size_t c = 0; c < channels; ++c) {
    layer.weight()[c] = 0.75 + 0.1 * static_cast<double>(c);
    layer.bias()[c] = 0.2 * static_cast<double>(c) - 0.4;
  }
  return layer;
}

void expect_same_training(const Communicator& group, DType dtype, Layout layout,
                          Activation activation) {
  const Shape shape{3 + group.rank(), channels, 37};
  const auto seed = static_cast<std::uint64_t>(group.rank());
  const Tensor x = Tensor::normal(dtype, shape, layout, seed, 0.5);
  const Tensor dy = Tensor::normal(dtype, shape, layout, seed + 50);
  BatchNorm keeping = make_layer(group, activation);
  BatchNorm in_place = make_layer(group, activation);
  ForwardRecord record, record_in_place;
  Tensor y(dtype, shape, layout), dx(dtype, shape, layout);
  Tensor both = x;
  Tensor gradient = dy;

  keeping.forward(x.view(), y.view(), record);
  in_place.forward_in_place(both.view(), record_in_place);
  keeping.backward(record, x.view(), dy.view(), dx.view());
  in_place.backward_in_place(record_in_place, both.view(), gradient.view(), gradient.view());

  const double w = dtype == DType::f64 ? 0x1p-53 : 0x1p-24;
  const double u_out = test::epsilon(dtype) / 2;
  const double n = record.count()[0];
  for (std::int64_t c = 0; c < channels; ++c) {
    const auto i = static_cast<std::size_t>(c);
    // |z / gamma| and |x_hat| stay below 8, |dz| and |dx / scale| below 8 too.
    const double of_x_hat = 8 * (u_out + 5 * w);
    const double scale = keeping.weight()[i] * record.invstd()[i];
    const double tolerance = scale * (of_x_hat * 8 * 2 + 60 * w) + 2 * u_out * 8 * scale;
    for (std::int64_t at = 0; at < shape.n; ++at) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        ASSERT_EQ(both.at(at, c, s), y.at(at, c, s));
        ASSERT_NEAR(gradient.at(at, c, s), dx.at(at, c, s), tolerance);
      }
    }
    EXPECT_EQ(in_place.running_mean()[i], keeping.running_mean()[i]);
    EXPECT_NEAR(in_place.bias_grad()[i], keeping.bias_grad()[i], n * 8 * w);
    EXPECT_NEAR(in_place.weight_grad()[i], keeping.weight_grad()[i], n * 8 * of_x_hat);
  }
}

TEST(RecoveredInput, TrainsAsTheInputDoes) {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      for (const Activation activation : {Activation::none, Activation::leaky_relu(0.1)}) {
        test::on_ranks([&](const Communicator& group) {
          expect_same_training(group, dtype, layout, activation);
        });
      }
    }
  }
}

TEST(RecoveredInput, IsRefusedWhereItCannotBe) {
  const Tensor original = Tensor::normal(DType::f32, {3, channels, 4}, Layout::channels_first, 1);
  Tensor x = original;
  ForwardRecord record;
  BatchNorm relu = make_layer(Communicator::self(), Activation::relu);
  BatchNorm zero = make_layer(Communicator::self(), Activation::none);
  zero.weight()[2] = 0;
  const auto refuses = [&](BatchNorm& layer, const char* why) {
    EXPECT_THAT(
        test::failure_of<InvalidArgument>([&] { layer.forward_in_place(x.view(), record); }),
        HasSubstr(why));
    EXPECT_EQ(x.at(0, 0, 0), original.at(0, 0, 0));
    EXPECT_TRUE(record.is_empty());
    EXPECT_EQ(*layer.num_batches_tracked(), 0);
  };
  refuses(relu, "relu cannot be inverted");
  refuses(zero, "gamma[2] is 0");
}

TEST(RecoveredInput, BackwardMustFitItsForward) {
  Tensor x = Tensor::normal(DType::f32, {3, channels, 4}, Layout::channels_first, 1);
  Tensor y(DType::f32, x.shape(), x.layout());
  BatchNorm layer = make_layer(Communicator::self(), Activation::none);
  ForwardRecord record;
  layer.forward(x.view(), y.view(), record);
  EXPECT_THROW(layer.backward_in_place(record, y.view(), x.view(), x.view()), InvalidArgument);
  layer.forward_in_place(x.view(), record);
  EXPECT_THROW(layer.backward(record, x.view(), y.view(), y.view()), InvalidArgument);
}

// The output of a constant channel is beta; the input is recovered as the mean.
TEST(RecoveredInput, OfAConstantChannelGivesNoGradient) {
  BatchNorm layer(1, Communicator::self(), {.eps = 0});
  Tensor x(DType::f32, {4, 1, 1}, Layout::channels_first);
  for (std::int64_t n = 0; n < 4; ++n) {
    x.set(n, 0, 0, 3);
  }
  const Tensor dy = Tensor::normal(DType::f32, x.shape(), x.layout(), 1);
  Tensor dx(DType::f32, x.shape(), x.layout());
  ForwardRecord record;
  layer.forward_in_place(x.view(), record);
  layer.backward_in_place(record, x.view(), dy.view(), dx.view());
  for (std::int64_t n = 0; n < 4; ++n) {
    EXPECT_EQ(dx.at(n, 0, 0), 0);
  }
}

}  // namespace
}  // namespace syncbn
