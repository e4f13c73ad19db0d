// SPDX-License-Identifier: Apache-2.0
//
// Values near the ends of their type's range, means that are far beyond the spread, and channels
// without any.

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "support/on_ranks.hpp"
#include "support/tensor.hpp"
#include "support/whole_batch.hpp"

namespace syncbn {
namespace {

using test::Tensor;

/// One channel whose samples take these values by turns, 16 in all.
Tensor alternating(DType dtype, const std::vector<double>& values) {
  Tensor batch(dtype, {16, 1, 1}, Layout::channels_first);
  for (std::int64_t n = 0; n < 16; ++n) {
    batch.set(n, 0, 0, values[static_cast<std::size_t>(n) % values.size()]);
  }
  return batch;
}

/// A layer's step on a rank's share of a batch.
struct Step {
  Tensor x, y, dy, dx;
  ForwardRecord record;

  Step(BatchNorm& layer, const Tensor& batch, const Communicator& group, float weight = 1)
      : x(batch.samples(16 * group.rank() / group.size(), 16 * (group.rank() + 1) / group.size())),
        y(x),
        dy(Tensor::normal(x.dtype(), x.shape(), x.layout(), 7, 0, 1,
                          16 * group.rank() / group.size())),
        dx(x) {
    const std::vector<float> weights(
        weight == 1 ? 0 : static_cast<std::size_t>(x.shape().per_channel()), weight);
    layer.forward(x.view(), y.view(), record, {.position_weights = weights});
    layer.backward(record, x.view(), dy.view(), dx.view(), {.position_weights = weights});
  }
};

/// y and dx are those of one process, within so much of the largest.
void expect_as_one_process(const Tensor& batch, double eps, double tolerance) {
  test::on_ranks([&](const Communicator& group) {
    BatchNorm layer(1, group, {.eps = eps});
    const test::WholeBatch oracle(batch, {1}, {0}, eps);
    const Tensor dy = Tensor::normal(batch.dtype(), batch.shape(), batch.layout(), 7);
    const auto gradients = oracle.backward(dy);
    for (int time = 0; time < 3; ++time) {
      const Step step(layer, batch, group);
      const std::int64_t begin = 16 * group.rank() / group.size();
      for (std::int64_t n = 0; n < step.y.shape().n; ++n) {
        const auto y = static_cast<double>(oracle.z(begin + n, 0, 0));
        EXPECT_NEAR(step.y.at(n, 0, 0), y, tolerance * 4) << "n " << n << ", time " << time;
        const auto dx = static_cast<double>(gradients.dx_at(batch.shape(), begin + n, 0, 0));
        const auto scale = static_cast<double>(oracle.invstd(0));
        if (scale < 1e38) {  // else dx is no float
          EXPECT_NEAR(step.dx.at(n, 0, 0), dx, tolerance * 8 * scale);
        }
      }
    }
  });
}

TEST(Range, SubnormalFloatsAreNormalized) {
  expect_as_one_process(alternating(DType::f32, {-1e-40, 1e-40}), 0, 1e-6);
  expect_as_one_process(alternating(DType::bf16, {-1e-39, 1e-39}), 0, 1e-2);
  expect_as_one_process(alternating(DType::f32, {-1e-30, 1e-30, 2e-30}), 0, 1e-6);
}

TEST(Range, TheLargestFloatsAreNormalized) {
  expect_as_one_process(alternating(DType::f32, {3e38, -3e38, -3e38, -3e38}), 1e-5, 1e-6);
  expect_as_one_process(alternating(DType::bf16, {3e38, -3e38, -3e38, -3e38}), 1e-5, 1e-2);
  expect_as_one_process(alternating(DType::f16, {65504, -65504, -65504, -65504}), 1e-5, 1e-3);
}

TEST(Range, SquaresOfShortFloatsMayLeaveTheRangeOfFloat) {
  for (const double size : {1e-36, 1e-25, 1e-20, 1e-15, 1e10, 1e19, 1e25, 1e37}) {
    expect_as_one_process(alternating(DType::bf16, {size, -size, 2 * size}), 0, 1e-2);
  }
}

// The activation's side is that of an output whose scale is no float.
TEST(Range, ExactSumsOfGradientsAreThoseOfTheReference) {
  const Tensor batch = Tensor::normal(DType::f32, {16, 1, 1}, Layout::channels_first, 1, 0, 1e-40);
  test::on_ranks([&](const Communicator& group) {
    std::vector<double> gradients;
    for (const Backend backend : {Backend::reference, Backend::cpu}) {
      BatchNorm layer(1, group,
                      {.eps = 0,
                       .activation = Activation::relu,
                       .parameter_gradients = GradientScope::group,
                       .reproducibility = Reproducibility::exact,
                       .backend = backend});
      layer.bias()[0] = 1;
      for (int time = 0; time < 3; ++time) {
        const Step step(layer, batch, group);
      }
      gradients.push_back(layer.bias_grad()[0]);
      gradients.push_back(layer.weight_grad()[0]);
    }
    EXPECT_EQ(gradients[0], gradients[2]);
    EXPECT_NEAR(gradients[1], gradients[3], 1e-12 * std::fabs(gradients[1]));
  });
}

TEST(Range, NeitherInfiniteNorNaNWhereTheVarianceIsNoDouble) {
  test::on_ranks([](const Communicator& group) {
    BatchNorm layer(1, group);
    const Step step(layer, alternating(DType::f64, {1e160, -1e160, -1e160, -1e160}), group);
    for (std::int64_t n = 0; n < step.y.shape().n; ++n) {
      EXPECT_EQ(step.y.at(n, 0, 0), 0);
    }
  });
}

// The spread is a millionth of the mean, of which a double has lost 2^-53.
TEST(Range, MeansOfDoublesMayBeBeyondFloats) {
  for (const double mean : {1e40, -1e100, 1e-50, 1e12}) {
    expect_as_one_process(alternating(DType::f64, {mean, mean * (1 + 1e-6), mean * (1 - 3e-6)}), 0,
                          1e-9);
  }
}

TEST(Range, AConstantChannelHasNoGradient) {
  test::on_ranks([](const Communicator& group) {
    for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
      for (const float weight : {1.0F, 0.3F}) {
        for (const double value : {1.0 / 3, 1e7 / 3, -1e-9 / 3, 1e200 / 3}) {
          if ((dtype != DType::f64 && value > 1e7) || (dtype == DType::f16 && value > 6e4)) {
            continue;
          }
          BatchNorm layer(1, group, {.eps = 0});
          for (int time = 0; time < 3; ++time) {
            const Step step(layer, alternating(dtype, {value}), group, weight);
            EXPECT_EQ(step.record.var()[0], 0) << to_string(dtype) << " " << value;
            for (std::int64_t n = 0; n < step.dx.shape().n; ++n) {
              EXPECT_EQ(step.y.at(n, 0, 0), 0);
              EXPECT_EQ(step.dx.at(n, 0, 0), 0);
            }
          }
        }
      }
    }
  });
}

TEST(Range, SmallWeightsLoseNothing) {
  test::on_ranks([](const Communicator& group) {
    const Tensor batch = alternating(DType::f32, {1e6 - 1, 1e6 + 1.25});
    BatchNorm one(1, group), small(1, group);
    for (int time = 0; time < 3; ++time) {
      const Step of_one(one, batch, group), of_small(small, batch, group, 1.2e-12F);
      for (std::int64_t n = 0; n < of_one.y.shape().n; ++n) {
        EXPECT_NEAR(of_small.y.at(n, 0, 0), of_one.y.at(n, 0, 0), 1e-6);
      }
    }
  });
}

TEST(Range, LessThanTwoElementsDoNotMoveTheRunningVariance) {
  test::on_ranks([](const Communicator& group) {
    const Tensor batch = alternating(DType::f32, {1, 2, 3, 4});
    for (const float weight : {0.01F, 1.0F / 16, 0.07F, 0.12F}) {
      BatchNorm layer(1, group);
      const Step step(layer, batch, group, weight);
      EXPECT_EQ(layer.running_var()[0], 1) << "a sum of " << 16 * weight;
      EXPECT_NEAR(layer.running_mean()[0], 0.25, 1e-9);
    }
    BatchNorm layer(1, group);
    const Step step(layer, batch, group, 0.125F);
    EXPECT_NEAR(layer.running_var()[0], 0.9 + 0.1 * 1.25 * 2, 1e-9) << "two elements";
  });
}

}  // namespace
}  // namespace syncbn
