// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;
using testing::HasSubstr;

constexpr Shape shape{.n = 4, .c = 5, .s = 6};

Tensor drawn(std::uint64_t seed) {
  return Tensor::normal(DType::f32, shape, Layout::channels_first, seed, 0.5);
}

TEST(Residual, NeedsNoOutputForItsGradientWithoutActivation) {
  const Tensor x = drawn(1), residual = drawn(2), dy = drawn(3);
  for (const double slope : {1.0, 0.0}) {
    BatchNorm layer(shape.c, Communicator::self(), {.activation = {slope}});
    Tensor y = x, dx = x, dresidual = x, expected_dx = x, expected_dresidual = x;
    ForwardRecord record;
    layer.forward(x.view(), y.view(), record, {.residual = residual.view()});
    layer.backward(record, x.view(), dy.view(), expected_dx.view(),
                   {.y = y.view(), .dresidual = expected_dresidual.view()});
    const auto without_y = [&] {
      layer.backward(record, x.view(), dy.view(), dx.view(), {.dresidual = dresidual.view()});
    };
    if (slope != 1) {
      EXPECT_THAT(test::failure_of<InvalidArgument>(without_y), HasSubstr("dresidual without y"));
      continue;
    }
    without_y();
    EXPECT_EQ(dx, expected_dx);
    EXPECT_EQ(dresidual, expected_dresidual);
  }
}

}  // namespace
}  // namespace syncbn
