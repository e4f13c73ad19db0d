// SPDX-License-Identifier: Apache-2.0

// Padded batches against the same without padding, and weights against repetition. In f64, whose
// results agree to some 1e-12: sums are added in another order.

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
using testing::HasSubstr;

constexpr double near = 1e-11;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

struct Step {
  Tensor y, dx;
  BatchNorm layer;

  Step(const Communicator& group, const Tensor& x, const Tensor& dy, PositionWeights weight)
      : y(x.dtype(), x.shape(), x.layout()),
        dx(x.dtype(), x.shape(), x.layout()),
        layer(x.shape().c, group,
              {.activation = Activation::relu, .parameter_gradients = GradientScope::group}) {
    ForwardRecord record;
    layer.forward(x.view(), y.view(), record, {.position_weights = weight});
    layer.backward(record, x.view(), dy.view(), dx.view(), {.position_weights = weight});
  }
};

void expect_same_layer(BatchNorm& a, BatchNorm& b) {
  for (std::size_t c = 0; c < a.running_mean().size(); ++c) {
    EXPECT_NEAR(a.running_mean()[c], b.running_mean()[c], near);
    EXPECT_NEAR(a.running_var()[c], b.running_var()[c], near);
    EXPECT_NEAR(a.weight_grad()[c], b.weight_grad()[c], near);
    EXPECT_NEAR(a.bias_grad()[c], b.bias_grad()[c], near);
  }
}

// Sequences of 1, 2, 3 ... steps, padded to `longest` with NaN; rank r has r + 1 of them (of
// several ranks the first has one without any step). Packed, each step is a sample.
TEST(Weights, OfZeroArePadding) {
  constexpr std::int64_t longest = 7, channels = 5;
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    test::on_ranks([&](const Communicator& group) {
      const std::int64_t sequences = group.rank() + 1;
      const auto length = [&](std::int64_t n) {
        return group.size() > 1 && group.rank() == 0 ? 0 : (n + group.rank()) % longest + 1;
      };
      std::int64_t steps = 0;
      for (std::int64_t n = 0; n < sequences; ++n) {
        steps += length(n);
      }
      const Shape shape{sequences, channels, longest}, packed_shape{steps, channels, 1};
      const auto seed = static_cast<std::uint64_t>(group.rank());
      Tensor x = Tensor::normal(DType::f64, shape, layout, seed, 0.5);
      Tensor dy = Tensor::normal(DType::f64, shape, layout, seed + 50);
      Tensor packed_x(DType::f64, packed_shape, layout),
          packed_dy(DType::f64, packed_shape, layout);
      std::vector<float> weight;
      std::int64_t at = 0;
      for (std::int64_t n = 0; n < sequences; ++n) {
        for (std::int64_t s = 0; s < longest; ++s) {
          const bool there = s < length(n);
          weight.push_back(there ? 1.0F : 0.0F);
          for (std::int64_t c = 0; c < channels; ++c) {
            if (there) {
              packed_x.set(at, c, 0, x.at(n, c, s));
              packed_dy.set(at, c, 0, dy.at(n, c, s));
            } else {
              x.set(n, c, s, nan);
              dy.set(n, c, s, nan);
            }
          }
          at += there ? 1 : 0;
        }
      }

      Step padded(group, x, dy, weight);
      Step packed(group, packed_x, packed_dy, {});

      expect_same_layer(padded.layer, packed.layer);
      at = 0;
      for (std::int64_t n = 0; n < sequences; ++n) {
        for (std::int64_t s = 0; s < longest; ++s) {
          const bool there = s < length(n);
          for (std::int64_t c = 0; c < channels; ++c) {
            EXPECT_NEAR(padded.y.at(n, c, s), there ? packed.y.at(at, c, 0) : 0, near);
            EXPECT_NEAR(padded.dx.at(n, c, s), there ? packed.dx.at(at, c, 0) : 0, near);
          }
          at += there ? 1 : 0;
        }
      }
    });
  }
}

// A sample of weight 3 is three samples that share its gradient.
TEST(Weights, CountAsRepetitions) {
  constexpr Shape shape{4, 3, 6};
  test::on_ranks([&](const Communicator& group) {
    const auto seed = static_cast<std::uint64_t>(group.rank());
    const Tensor x = Tensor::normal(DType::f64, shape, Layout::channels_first, seed, 0.5);
    const Tensor dy = Tensor::normal(DType::f64, shape, Layout::channels_first, seed + 50);
    const auto copies = [](std::int64_t n) { return n == 1 ? 3 : 1; };
    Tensor long_x(DType::f64, {6, 3, 6}, Layout::channels_first), long_dy = long_x;
    std::vector<float> weight;
    std::int64_t at = 0;
    for (std::int64_t n = 0; n < shape.n; ++n) {
      weight.insert(weight.end(), 6, static_cast<float>(copies(n)));
      for (int copy = 0; copy < copies(n); ++copy, ++at) {
        for (std::int64_t i = 0; i < 18; ++i) {
          long_x.set(at, i / 6, i % 6, x.at(n, i / 6, i % 6));
          long_dy.set(at, i / 6, i % 6, dy.at(n, i / 6, i % 6) / copies(n));
        }
      }
    }

    Step weighted(group, x, dy, weight);
    Step repeated(group, long_x, long_dy, {});

    expect_same_layer(weighted.layer, repeated.layer);
    for (std::int64_t i = 0; i < 18; ++i) {
      EXPECT_NEAR(weighted.y.at(1, i / 6, i % 6), repeated.y.at(1, i / 6, i % 6), near);
      EXPECT_NEAR(weighted.dx.at(1, i / 6, i % 6), 3 * repeated.dx.at(1, i / 6, i % 6), near);
      EXPECT_NEAR(weighted.dx.at(3, i / 6, i % 6), repeated.dx.at(5, i / 6, i % 6), near);
    }
  });
}

TEST(Weights, ThatCannotBeAreRefusedAndNothingChanged) {
  const Tensor x = Tensor::normal(DType::f32, {2, 3, 2}, Layout::channels_first, 1);
  Tensor y(DType::f32, x.shape(), x.layout());
  Tensor dx = y;
  BatchNorm layer(3, Communicator::self());
  ForwardRecord record;
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& weight :
       {std::vector<float>{1, 1, 1}, {1, 1, 1, -1}, {1, 1, 1, infinity}, {1, 1, 1, NAN}}) {
    EXPECT_THROW(layer.forward(x.view(), y.view(), record, {.position_weights = weight}),
                 InvalidArgument);
    EXPECT_THROW(layer.infer(x.view(), y.view(), {.position_weights = weight}), InvalidArgument);
  }
  EXPECT_TRUE(record.is_empty());
  EXPECT_EQ(*layer.num_batches_tracked(), 0);

  const std::vector<float> weight = {1, 1, 1, 0};
  layer.forward(x.view(), y.view(), record, {.position_weights = weight});
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { layer.backward(record, x.view(), x.view(), dx.view()); }),
              HasSubstr("the forward had weights"));
}

}  // namespace
}  // namespace syncbn
