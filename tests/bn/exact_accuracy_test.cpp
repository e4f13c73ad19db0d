// SPDX-License-Identifier: Apache-2.0

// These tests hold the statistics of Reproducibility::exact against two passes in long double.
//
// The bounds are those of channels/exact_steps.hpp. With V = var + eps, and K the float (of f64 the
// double) that is nearest to the mean, and n at most 50 elements,
//
//   |var's error|  <= tolerance V + 2^-49 k^2 + n 2^-46 j^2    tolerance: 2^-25, f64 1e-14
//   |mean's error| <= tolerance sqrt(V) + 2^-50 (|mean| + sqrt(V) + k) + n 2^-49 j
//
// where k = |mean - K| + 4 j, and j = (n 2^-49 + 2^-50) J is how far a jump of the mean by J leaves
// the pivot off K, which is 0 where the mean is less than 4 of that. The second term of the mean's
// error is what double holds the mean with, and the rounding of x - K. f64 has 2^-50 of the units,
// and of n 2^-46 and n 2^-49.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;
using Real = long double;

struct Moments {
  Real mean = 0;
  Real var = 0;
};

/// Computes those of channel c from the definition.
Moments moments_of(const Tensor& x, std::int64_t c, const std::vector<float>& weight) {
  const Shape& shape = x.shape();
  const auto sum = [&](const auto& term) {
    Real total = 0;
    for (std::int64_t n = 0; n < shape.n; ++n) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        const auto i = static_cast<std::size_t>(n * shape.s + s);
        const Real w = weight.empty() ? 1 : static_cast<Real>(weight[i]);
        total += w * term(static_cast<Real>(x.at(n, c, s)));
      }
    }
    return total;
  };
  const Real count = sum([](Real) -> Real { return 1; });
  const Real near = sum([](Real v) { return v; }) / count;
  const Real offset = sum([&](Real v) { return v - near; }) / count;
  return {near + offset,
          sum([&](Real v) { return (v - near) * (v - near); }) / count - offset * offset};
}

/// Returns what a pivot leaves of the mean.
Real beyond_pivot(Real mean, bool fine) {
  return fine ? mean - static_cast<Real>(static_cast<double>(mean))
              : mean - static_cast<Real>(static_cast<float>(mean));
}

/// Expects statistics of every channel within the bounds. `earlier`: means of earlier steps,
/// between which their pivots are, or none if the mean has not jumped.
void expect_near_the_truth(const ForwardRecord& record, const Tensor& x,
                           const std::vector<float>& weight, double eps, const std::string& which,
                           const std::vector<double>& earlier = {}) {
  const bool fine = x.dtype() == DType::f64;
  const Real tolerance = fine ? 1e-14L : 0x1p-25L;
  const Real unit = static_cast<Real>(x.shape().per_channel()) * (fine ? 0x1p-99L : 0x1p-49L);
  for (std::int64_t c = 0; c < x.shape().c; ++c) {
    const auto channel = static_cast<std::size_t>(c);
    const Moments truth = moments_of(x, c, weight);
    const Real v = truth.var + static_cast<Real>(eps);
    const Real jump =
        earlier.empty() ? 0 : std::fabs(truth.mean) + static_cast<Real>(earlier[channel]);
    const Real j = (unit + 0x1p-50L) * jump;
    const Real k = std::fabs(beyond_pivot(truth.mean, fine)) + 4 * j;
    const Real of_var = std::fabs(static_cast<Real>(record.var()[channel]) - truth.var);
    const Real of_mean = std::fabs(static_cast<Real>(record.mean()[channel]) - truth.mean);
    EXPECT_LE(of_var, tolerance * v + 0x1p-49L * k * k + 8 * unit * j * j)
        << which << ", channel " << c << ": var " << truth.var << ", mean " << truth.mean;
    EXPECT_LE(of_mean, tolerance * std::sqrt(v) +
                           0x1p-50L * (std::fabs(truth.mean) + std::sqrt(v) + k) + unit * j)
        << which << ", channel " << c << ": var " << truth.var << ", mean " << truth.mean;
  }
}

BatchNormOptions exact_options(double eps) {
  return {.name = "exact", .eps = eps, .reproducibility = Reproducibility::exact};
}

/// Returns y of a first step with one channel.
std::vector<double> normalized(DType dtype, const std::vector<double>& values,
                               const std::vector<float>& weight, double eps) {
  Tensor x(dtype, {static_cast<std::int64_t>(values.size()), 1, 1}, Layout::channels_first);
  for (std::size_t n = 0; n < values.size(); ++n) {
    x.set(static_cast<std::int64_t>(n), 0, 0, values[n]);
  }
  Tensor y = x;
  ForwardRecord record;
  BatchNorm layer(1, Communicator::self(), exact_options(eps));
  layer.forward(x.view(), y.view(), record, {.position_weights = weight});
  expect_near_the_truth(record, x, weight, eps, "a first step");
  std::vector<double> result;
  for (std::int64_t n = 0; n < x.shape().n; ++n) {
    result.push_back(y.at(n, 0, 0));
  }
  return result;
}

// Two values a and b with weights v and w are (b - a) w / (v + w) off their mean, and their
// standard deviation is |b - a| sqrt(v w) / (v + w): normalized they are sqrt(w / v) and
// sqrt(v / w), whatever a and b. y is computed in float, from a mean that is as exact as double.
TEST(ExactAccuracy, DoesNotSufferFromLargeWeightsAboutAFarPivot) {
  for (const auto& [v, w] :
       {std::pair(1000.1, 0.7), std::pair(4.1, 4.3), std::pair(1e6, 1e-3), std::pair(1e30, 3e30)}) {
    const std::vector<double> y = normalized(DType::f32, {999999, 1000001},
                                             {static_cast<float>(v), static_cast<float>(w)}, 0);
    const double deviation = 2 * std::sqrt(v * w) / (v + w);
    const double tolerance = 0x1p-52 * 1e6 / deviation;
    EXPECT_NEAR(y[0], -std::sqrt(w / v), tolerance + 1e-6 * std::sqrt(w / v)) << v;
    EXPECT_NEAR(y[1], std::sqrt(v / w), tolerance + 1e-6 * std::sqrt(v / w)) << v;
  }
}

TEST(ExactAccuracy, DoesNotSufferFromSmallWeights) {
  const std::vector<double> y =
      normalized(DType::f32, {1e6 - 1, 1e6 + 1.2}, {1.1e-12F, 1.3e-12F}, 1e-5);
  EXPECT_NEAR(y[0], -std::sqrt(1.3 / 1.1), 1e-5);
  EXPECT_NEAR(y[1], std::sqrt(1.1 / 1.3), 1e-5);
}

// Terms of so small weights lie far below the units that earlier steps let expect.
TEST(ExactAccuracy, DoesNotSufferFromWeightsThatBecomeSmall) {
  const Tensor x = Tensor::normal(DType::f32, {40, 3, 1}, Layout::channels_first, 3, 2.5);
  BatchNorm layer(3, Communicator::self(), exact_options(1e-5));
  Tensor y = x;
  ForwardRecord record;
  for (const float scale : {1.0F, 1.0F, 1e-3F, 3e-9F, 1e-12F, 1e-30F, 1e6F}) {
    std::vector<float> weight;
    for (int i = 0; i < 40; ++i) {
      weight.push_back(scale * (1 + 0.1F * static_cast<float>(i % 7)));
    }
    layer.forward(x.view(), y.view(), record, {.position_weights = weight});
    expect_near_the_truth(record, x, weight, 1e-5,
                          "weights of 2^" + std::to_string(std::ilogb(scale)));
  }
}

// Weighted squares fit in the window of the steps before, far above its unit. The weighted
// differences are only 2^14 of theirs, which makes the mean coarse; the variance it makes coarse
// only with an offset, of which there is none, as the values add up to 0.
TEST(ExactAccuracy, DoesNotSufferFromLargeValuesOfSmallWeight) {
  BatchNorm layer(3, Communicator::self(), exact_options(1e-5));
  ForwardRecord record;
  for (const int exponent : {0, 0, 20}) {
    Tensor x = Tensor::normal(DType::f32, {40, 3, 1}, Layout::channels_first, 3, 0,
                              std::ldexp(1.0, exponent));
    for (std::int64_t c = 0; c < 3; ++c) {
      double others = 0;
      for (std::int64_t n = 1; n < 40; ++n) {
        others += x.at(n, c, 0);
      }
      x.set(0, c, 0, -others);
    }
    const std::vector<float> weight(40, exponent == 0 ? 1 : 0x1p-47F);
    Tensor y = x;
    layer.forward(x.view(), y.view(), record, {.position_weights = weight});
    expect_near_the_truth(record, x, weight, 1e-5, "values of 2^" + std::to_string(exponent));
  }
}

TEST(ExactAccuracy, HoldsAtTheEndsOfTheRangeOfDouble) {
  Tensor x(DType::f64, {9, 4, 31}, Layout::channels_first);
  const double magnitudes[] = {1e-150, 1e150, 1, 1e-150};
  for (std::int64_t c = 0; c < 4; ++c) {
    const Tensor drawn =
        Tensor::normal(DType::f64, {9, 1, 31}, Layout::channels_first, 7, c == 3 ? 5 : 0);
    for (std::int64_t n = 0; n < 9; ++n) {
      for (std::int64_t s = 0; s < 31; ++s) {
        x.set(n, c, s, magnitudes[c] * drawn.at(n, 0, s));
      }
    }
  }
  BatchNorm layer(4, Communicator::self(), exact_options(0));
  Tensor y = x;
  ForwardRecord record;
  for (int step = 0; step < 3; ++step) {
    layer.forward(x.view(), y.view(), record);
    expect_near_the_truth(record, x, {}, 0, "step " + std::to_string(step));
  }
}

// Pivots of the first step are 0, standard deviations away.
TEST(ExactAccuracy, HoldsForF64AboutADistantPivot) {
  for (int mean = 0; mean <= 12; ++mean) {
    for (std::int64_t n = 2; n <= 50; ++n) {
      const Tensor x = Tensor::normal(DType::f64, {n, 8, 1}, Layout::channels_first,
                                      static_cast<std::uint64_t>(100 * mean + n), mean);
      BatchNorm layer(8, Communicator::self(), exact_options(1e-5));
      Tensor y = x;
      ForwardRecord record;
      layer.forward(x.view(), y.view(), record);
      expect_near_the_truth(record, x, {}, 1e-5,
                            "mean " + std::to_string(mean) + ", n " + std::to_string(n));
    }
  }
}

/// These draw numbers that are the same everywhere.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : bits_(seed) {}

  double uniform(double low, double high) {
    return low + (high - low) * std::ldexp(static_cast<double>(bits_() >> 11), -53);
  }
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(bits_() % static_cast<std::uint64_t>(high - low + 1));
  }
  double power_of_10(double low, double high) { return std::pow(10.0, uniform(low, high)); }

 private:
  std::mt19937_64 bits_;
};

/// Draws weights of one magnitude, or of magnitudes far apart, some of them 0; for one batch in
/// three none at all.
std::vector<float> draw_weights(Draws& draws, std::int64_t n) {
  std::vector<float> weight;
  const std::int64_t kind = draws.integer(0, 2);
  const double magnitude = draws.power_of_10(-12, 6);
  for (std::int64_t i = 0; i < (kind == 0 ? 0 : n); ++i) {
    const double drawn = kind == 1 ? magnitude * draws.uniform(0.5, 2) : draws.power_of_10(-12, 6);
    weight.push_back(i > 1 && draws.integer(0, 5) == 0 ? 0 : static_cast<float>(drawn));
  }
  return weight;
}

/// Draws a batch whose channels have magnitudes of their own, and means up to 1e6 deviations off 0.
/// Weighted squares stay in the range of double, where they are exact.
Tensor draw_batch(Draws& draws, DType dtype, const Shape& shape) {
  Tensor x(dtype, shape, Layout::channels_first);
  const double most = dtype == DType::f64 ? 143 : 18;
  for (std::int64_t c = 0; c < shape.c; ++c) {
    const double spread = draws.power_of_10(-most, most);
    const double mean = draws.integer(0, 1) * draws.power_of_10(-1, 6) * spread;
    for (std::int64_t n = 0; n < shape.n; ++n) {
      x.set(n, c, 0, mean + spread * draws.uniform(-1, 1));
    }
  }
  return x;
}

TEST(ExactAccuracy, HoldsForAnyMagnitudesAndWeights) {
  Draws draws(11);
  for (int trial = 0; trial < 1500; ++trial) {
    const DType dtype = trial % 2 == 0 ? DType::f64 : DType::f32;
    const double eps = draws.integer(0, 1) == 0 ? 0 : 1e-5;
    const std::int64_t n = draws.integer(1, 50);
    BatchNorm layer(5, Communicator::self(), exact_options(eps));
    ForwardRecord record;
    Tensor x = draw_batch(draws, dtype, {n, 5, 1});
    std::vector<double> earlier(5, 0.0);  // largest of the means
    for (int step = 0; step < 4; ++step) {
      if (step == 3) {  // a jump
        x = draw_batch(draws, dtype, {n, 5, 1});
      }
      const std::vector<float> weight = draw_weights(draws, n);
      Tensor y = x;
      layer.forward(x.view(), y.view(), record, {.position_weights = weight});
      expect_near_the_truth(record, x, weight, eps,
                            "trial " + std::to_string(trial) + ", step " + std::to_string(step),
                            earlier);
      for (std::size_t c = 0; c < earlier.size(); ++c) {
        earlier[c] = std::max(earlier[c], std::fabs(record.mean()[c]));
      }
    }
    if (testing::Test::HasFailure()) {
      return;  // the first says enough
    }
  }
}

}  // namespace
}  // namespace syncbn
