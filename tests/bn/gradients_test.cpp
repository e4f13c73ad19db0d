// SPDX-License-Identifier: Apache-2.0
//
// Gradients of L = sum(w * y) in double against central differences over the whole group.
// With step h the difference is off by h^2 L'''/6 and 2 u |L| / h: h = 1e-5 gives about 1e-9 here.

#include <cmath>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;

constexpr double h = 1e-5;
constexpr double tolerance = 2e-8;
constexpr Shape whole{6, 3, 2};

struct Problem {
  Communicator group;
  Activation activation;
  bool residual;
  std::vector<float> weight = {};  ///< [N, S] of the whole batch, or empty
  std::vector<double> gamma = {1.5, -0.5, 0.75};
  std::vector<double> beta = {0.2, 0.1, -0.3};
  Tensor x = Tensor::normal(DType::f64, whole, Layout::channels_first, 1, 0.7, 2);
  Tensor r = Tensor::normal(DType::f64, whole, Layout::channels_first, 2);
  Tensor w = Tensor::normal(DType::f64, whole, Layout::channels_first, 3);

  std::int64_t begin() const { return whole.n * group.rank() / group.size(); }
  std::int64_t end() const { return whole.n * (group.rank() + 1) / group.size(); }
  Tensor mine(const Tensor& t) const { return t.samples(begin(), end()); }

  PositionWeights my_weight() const {
    const auto first = static_cast<std::size_t>(begin() * whole.s);
    const auto size = static_cast<std::size_t>((end() - begin()) * whole.s);
    return weight.empty() ? PositionWeights() : PositionWeights(weight).subspan(first, size);
  }

  BatchNorm layer(GradientScope scope = GradientScope::local) const {
    BatchNorm result(whole.c, group, {.activation = activation, .parameter_gradients = scope});
    std::ranges::copy(gamma, result.weight().begin());
    std::ranges::copy(beta, result.bias().begin());
    return result;
  }

  /// The loss of the whole group, on every rank.
  double loss() const {
    BatchNorm own = layer();
    const Tensor shard = mine(x);
    const Tensor weights = mine(w);
    Tensor y(DType::f64, shard.shape(), shard.layout());
    ForwardRecord record;
    if (residual) {
      own.forward(shard.view(), y.view(), record,
                  {.residual = mine(r).view(), .position_weights = my_weight()});
    } else {
      own.forward(shard.view(), y.view(), record, {.position_weights = my_weight()});
    }
    std::vector<double> sum = {0.0};
    for (std::int64_t n = 0; n < shard.shape().n; ++n) {
      for (std::int64_t c = 0; c < whole.c; ++c) {
        for (std::int64_t s = 0; s < whole.s; ++s) {
          sum[0] += weights.at(n, c, s) * y.at(n, c, s);
        }
      }
    }
    group.all_reduce(sum);
    return sum[0];
  }

  template <class Nudge>
  double difference(Nudge&& nudge) {
    nudge(h);
    const double up = loss();
    nudge(-2 * h);
    const double down = loss();
    nudge(h);
    return (up - down) / (2 * h);
  }
};

void check(const Communicator& group, Activation activation, bool residual,
           const std::vector<float>& weight = {}) {
  Problem problem{group, activation, residual, weight};
  const PositionWeights own = problem.my_weight();
  const Tensor x = problem.mine(problem.x);
  const Tensor r = problem.mine(problem.r);
  const Tensor dy = problem.mine(problem.w);
  Tensor y(DType::f64, x.shape(), x.layout()), dx(DType::f64, x.shape(), x.layout());
  Tensor dr(DType::f64, x.shape(), x.layout());
  BatchNorm layer = problem.layer(GradientScope::group);
  ForwardRecord record;
  if (residual) {
    layer.forward(x.view(), y.view(), record, {.residual = r.view(), .position_weights = own});
    layer.backward(record, x.view(), dy.view(), dx.view(),
                   {.y = y.view(), .dresidual = dr.view(), .position_weights = own});
  } else {
    layer.forward(x.view(), y.view(), record, {.position_weights = own});
    layer.backward(record, x.view(), dy.view(), dx.view(), {.position_weights = own});
  }
  const auto compare_elements = [&](Tensor& input, const Tensor& gradient) {
    for (std::int64_t n = 0; n < whole.n; ++n) {
      for (std::int64_t c = 0; c < whole.c; ++c) {
        const double expected =
            problem.difference([&](double step) { input.set(n, c, 1, input.at(n, c, 1) + step); });
        if (n >= problem.begin() && n < problem.end()) {
          EXPECT_NEAR(gradient.at(n - problem.begin(), c, 1), expected, tolerance);
        }
      }
    }
  };
  compare_elements(problem.x, dx);
  if (residual) {
    compare_elements(problem.r, dr);
  }
  for (std::size_t c = 0; c < problem.gamma.size(); ++c) {
    EXPECT_NEAR(layer.weight_grad()[c],
                problem.difference([&](double step) { problem.gamma[c] += step; }), tolerance);
    EXPECT_NEAR(layer.bias_grad()[c],
                problem.difference([&](double step) { problem.beta[c] += step; }), tolerance);
  }
}

TEST(Gradients, MatchDifferences) {
  test::on_ranks([](const Communicator& group) { check(group, Activation::none, false); });
}

TEST(Gradients, MatchDifferencesBehindRelu) {
  test::on_ranks([](const Communicator& group) { check(group, Activation::relu, false); });
}

TEST(Gradients, MatchDifferencesWithAResidualBehindRelu) {
  test::on_ranks([](const Communicator& group) { check(group, Activation::relu, true); });
}

TEST(Gradients, MatchDifferencesBehindLeakyRelu) {
  for (const bool residual : {false, true}) {
    test::on_ranks(
        [&](const Communicator& group) { check(group, Activation::leaky_relu(0.2), residual); });
  }
}

TEST(Gradients, MatchDifferencesWithWeights) {
  const std::vector<float> weight = {1, 0.5F, 0, 2, 1, 1, 3, 0.25F, 1, 0, 0, 1};
  for (const bool residual : {false, true}) {
    test::on_ranks([&](const Communicator& group) {
      check(group, Activation::leaky_relu(0.2), residual, weight);
    });
  }
}

}  // namespace
}  // namespace syncbn
