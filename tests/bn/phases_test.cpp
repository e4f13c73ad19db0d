// SPDX-License-Identifier: Apache-2.0
//
// The phases with the host's own all-reduce give the bits of the layer.

#include <limits>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;

TEST(Phases, WithAnAllReduceInBetweenAreTheLayer) {
  test::on_ranks([](const Communicator& group) {
    for (const double mean : {0.5, 1e4}) {
      const Shape shape{3, 5, 7};
      const Tensor x =
          Tensor::normal(DType::f32, shape, Layout::channels_first, 1, mean, 1, 3 * group.rank());
      const Tensor dy =
          Tensor::normal(DType::f32, shape, Layout::channels_first, 2, 0, 1, 3 * group.rank());
      Tensor y(DType::f32, shape, x.layout()), dx(DType::f32, shape, x.layout());
      Tensor layer_y = y, layer_dx = dx;
      BatchNorm layer(5, group, {.activation = Activation::relu});
      ForwardRecord record;
      layer.forward(x.view(), layer_y.view(), record);
      layer.backward(record, x.view(), dy.view(), layer_dx.view());

      std::vector<double> pivot(5, 0.0);
      std::vector<double> sums(sums_length(5));
      forward_sums(x.view(), pivot, sums);
      group.all_reduce(sums);
      if (pivot_is_far(sums, pivot, 1e-5, DType::f32)) {
        move_pivot_to_mean(sums, pivot, DType::f32);
        forward_sums(x.view(), pivot, sums);
        group.all_reduce(sums);
      }
      Statistics statistics;
      finalize(sums, pivot, 1e-5, statistics);
      normalize(x.view(), statistics, {}, Activation::relu, std::nullopt, y.view());
      const BackwardContext context{.x = x.view(),
                                    .dy = dy.view(),
                                    .statistics = statistics,
                                    .affine = {},
                                    .activation = Activation::relu,
                                    .y = std::nullopt};
      backward_sums(context, sums);
      group.all_reduce(sums);
      input_gradient(context, sums, dx.view(), std::nullopt);

      EXPECT_EQ(statistics.count, 3.0 * 7 * group.size());
      for (std::int64_t n = 0; n < shape.n; ++n) {
        for (std::int64_t c = 0; c < shape.c; ++c) {
          for (std::int64_t s = 0; s < shape.s; ++s) {
            ASSERT_EQ(y.at(n, c, s), layer_y.at(n, c, s));
            ASSERT_EQ(dx.at(n, c, s), layer_dx.at(n, c, s));
          }
        }
      }
    }
  });
}

TEST(Phases, RefuseLengthsThatDoNotFit) {
  const Tensor x = Tensor::normal(DType::f32, {2, 3, 4}, Layout::channels_first, 1);
  Tensor y = x;
  std::vector<double> pivot(3);
  std::vector<double> sums(sums_length(3));
  std::vector<double> gamma(3, 1.0);
  EXPECT_THROW(forward_sums(x.view(), std::span(pivot).first(2), sums), InvalidArgument);
  EXPECT_THROW(forward_sums(x.view(), pivot, std::span(sums).first(6)), InvalidArgument);
  Statistics statistics;
  EXPECT_THROW(finalize(std::span(sums).first(5), pivot, 1e-5, statistics), InvalidArgument);
  EXPECT_THROW(normalize(x.view(), statistics, {}, Activation::none, std::nullopt, y.view()),
               InvalidArgument);
  forward_sums(x.view(), pivot, sums);
  finalize(sums, pivot, 1e-5, statistics);
  EXPECT_THROW(
      normalize(x.view(), statistics, {gamma, {}}, Activation::none, std::nullopt, y.view()),
      InvalidArgument);
  EXPECT_NO_THROW(
      normalize(x.view(), statistics, {gamma, gamma}, Activation::none, std::nullopt, y.view()));
}

TEST(Phases, RefuseAnEpsThatCannotBe) {
  const std::vector<double> sums = {1e6, 1e12, 1};  // about a pivot that is far from the mean
  const std::vector<double> pivot = {0};
  Statistics statistics;
  for (const double eps :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    EXPECT_THROW(pivot_is_far(sums, pivot, eps, DType::f32), InvalidArgument) << eps;
    EXPECT_THROW(finalize(sums, pivot, eps, statistics), InvalidArgument) << eps;
  }
  EXPECT_TRUE(statistics.mean.empty());
  EXPECT_NO_THROW(finalize(sums, pivot, 0, statistics));
}

}  // namespace
}  // namespace syncbn
