// SPDX-License-Identifier: Apache-2.0
#include "trainer/layers.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "trainer/networks.hpp"

namespace syncbn::trainer {
namespace {

constexpr std::int64_t samples = 5;
const Random numbers{42};

std::vector<float> random_values(std::int64_t size, std::uint64_t first) {
  std::vector<float> values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(numbers.normal(first + i));
  }
  return values;
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// A layer on one batch, and the scalar sum(y * weights) whose gradients are checked.
class Probe {
 public:
  Probe(std::unique_ptr<Layer> layer, std::int64_t input_size)
      : layer_(std::move(layer)),
        x_(random_values(samples * input_size, 1000)),
        y_(static_cast<std::size_t>(samples * layer_->output_size())),
        dy_(random_values(samples * layer_->output_size(), 500'000)) {
    std::iota(numbers_.begin(), numbers_.end(), 3);
  }

  Pass pass() const { return {Mode::train, 7, numbers_}; }

  double objective() {
    layer_->forward(pass(), x_.data(), y_.data());
    return dot(y_, dy_);
  }

  std::vector<float> input_gradient() {
    objective();
    std::vector<float> dx(x_.size());
    layer_->backward(pass(), x_.data(), y_.data(), dy_.data(), dx.data());
    return dx;
  }

  /// The gradient of `values`, which the objective depends on, by central differences.
  std::vector<float> numerical_gradient(std::vector<float>& values) {
    constexpr float step = 1.0F / 128;
    std::vector<float> gradient;
    for (float& value : values) {
      const float before = value;
      value = before + step;
      const double above = objective();
      value = before - step;
      const double below = objective();
      value = before;
      gradient.push_back(static_cast<float>((above - below) / (2 * step)));
    }
    return gradient;
  }

  /// Relative to the largest element. Float arithmetic in the objective leaves about 1e-4, the
  /// third derivative of the functions used here as much.
  void check() {
    std::vector<float> dx = input_gradient();
    std::vector<std::vector<float>> gradients;
    for (const Parameter& parameter : layer_->parameters()) {
      gradients.emplace_back(parameter.gradient.begin(), parameter.gradient.end());
    }
    expect_near(dx, numerical_gradient(x_), "x");
    std::size_t i = 0;
    for (Parameter& parameter : layer_->parameters()) {
      expect_near(gradients[i++], numerical_gradient(parameter.value), parameter.name);
    }
  }

  Layer& layer() { return *layer_; }
  std::vector<float>& x() { return x_; }
  const std::vector<float>& y() const { return y_; }

 private:
  static void expect_near(const std::vector<float>& actual, const std::vector<float>& expected,
                          const std::string& name) {
    ASSERT_EQ(actual.size(), expected.size());
    const auto size = [](float a, float b) { return std::abs(a) < std::abs(b); };
    const float largest = std::abs(*std::max_element(expected.begin(), expected.end(), size));
    for (std::size_t i = 0; i < actual.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], 2e-3 * largest)
          << "gradient of " << name << "[" << i << "]";
    }
  }

  std::unique_ptr<Layer> layer_;
  std::vector<float> x_, y_, dy_;
  std::vector<std::int64_t> numbers_ = std::vector<std::int64_t>(samples);
};

Initialization unit() {
  return {Random{1}, 1};
}

TEST(DenseLayer, MultipliesByItsWeights) {
  Probe probe(dense_layer("dense", 7, 3, dnn::Bias::with, unit()), 7);
  const std::span<Parameter> parameters = probe.layer().parameters();
  parameters[1].value = {0.5F, -1, 2};
  probe.objective();
  for (std::size_t n = 0; n < samples; ++n) {
    for (std::size_t o = 0; o < 3; ++o) {
      double expected = parameters[1].value[o];
      for (std::size_t i = 0; i < 7; ++i) {
        expected += parameters[0].value[o * 7 + i] * probe.x()[n * 7 + i];
      }
      EXPECT_NEAR(probe.y()[n * 3 + o], expected, 1e-5);
    }
  }
}

TEST(DenseLayer, HasTheRightGradients) {
  Probe(dense_layer("dense", 7, 3, dnn::Bias::with, unit()), 7).check();
  Probe(dense_layer("dense", 7, 3, dnn::Bias::without, unit()), 7).check();
}

TEST(DenseLayer, AddsUpWeightGradientsInDoubleForAnyWidth) {
  constexpr std::int64_t n = 9;
  for (const std::int64_t inputs : {1, 7, 8, 37}) {
    for (const std::int64_t outputs : {1, 3, 4, 11}) {
      dnn::Dense dense(inputs, outputs, dnn::Bias::with);
      const std::vector<float> x = random_values(n * inputs, 1),
                               dy = random_values(n * outputs, 900);
      std::vector<double> dw(static_cast<std::size_t>(inputs * outputs)),
          db(static_cast<std::size_t>(outputs));
      dense.backward_weights(n, x.data(), dy.data(), dw.data(), db.data());
      for (std::int64_t o = 0; o < outputs; ++o) {
        for (std::int64_t k = 0; k < inputs; ++k) {
          double sum = 0;  // in the order of the samples, in which it is the same to the bit
          for (std::int64_t i = 0; i < n; ++i) {
            sum += static_cast<double>(dy[static_cast<std::size_t>(i * outputs + o)]) *
                   x[static_cast<std::size_t>(i * inputs + k)];
          }
          EXPECT_EQ(dw[static_cast<std::size_t>(o * inputs + k)], sum) << inputs << "x" << outputs;
        }
      }
    }
  }
}

TEST(AffineLayer, ScalesAndShiftsEachChannel) {
  constexpr std::int64_t pixels = 4, channels = 3;
  Probe probe(affine_layer("bn1", pixels, channels), pixels * channels);
  const std::span<Parameter> parameters = probe.layer().parameters();
  EXPECT_EQ(parameters[0].name, "bn1.weight");
  EXPECT_EQ(parameters[1].name, "bn1.bias");
  probe.objective();
  EXPECT_EQ(probe.y(), probe.x()) << "it begins as the identity";
  parameters[0].value = {2, 0.5F, -1};
  parameters[1].value = {1, 0, 3};
  probe.objective();
  for (std::size_t i = 0; i < probe.y().size(); ++i) {
    const std::size_t c = i % channels;
    EXPECT_EQ(probe.y()[i], parameters[0].value[c] * probe.x()[i] + parameters[1].value[c]);
  }
  EXPECT_FALSE(probe.layer().is_batch_norm());
}

TEST(AffineLayer, HasTheRightGradients) {
  Probe(affine_layer("bn1", 4, 3), 12).check();
}

/// Images channels last, weights [filters, channels, 3, 3].
TEST(ConvolutionLayer, SlidesItsFiltersOverTheImage) {
  const dnn::Image image{4, 5, 2};
  Probe probe(convolution_layer("conv", image, 3, dnn::Bias::without, unit()), image.size());
  const std::vector<float>& w = probe.layer().parameters()[0].value;
  probe.objective();
  for (std::int64_t at = 0; at < samples * 4 * 5 * 3; ++at) {
    const std::int64_t f = at % 3, column = at / 3 % 5, row = at / 15 % 4, n = at / 60;
    double expected = 0;
    for (std::int64_t tap = 0; tap < 18; ++tap) {
      const std::int64_t c = tap / 9, r = row + tap / 3 % 3 - 1, k = column + tap % 3 - 1;
      if (r >= 0 && r < 4 && k >= 0 && k < 5) {
        expected += w[static_cast<std::size_t>(f * 18 + tap)] *
                    probe.x()[static_cast<std::size_t>(((n * 4 + r) * 5 + k) * 2 + c)];
      }
    }
    ASSERT_NEAR(probe.y()[static_cast<std::size_t>(at)], expected, 1e-5);
  }
}

TEST(ConvolutionLayer, HasTheRightGradients) {
  const dnn::Image image{4, 5, 2};
  Probe(convolution_layer("conv", image, 3, dnn::Bias::with, unit()), image.size()).check();
  const dnn::Image wide{6, 6, 16};
  Probe(convolution_layer("conv", wide, 16, dnn::Bias::without, unit()), wide.size()).check();
}

TEST(AveragePoolLayer, LeavesOutAnOddRowAndColumn) {
  const dnn::Image image{5, 3, 2};
  Probe probe(average_pool_layer(image), image.size());
  EXPECT_EQ(probe.layer().output_size(), 2 * 1 * 2);
  probe.objective();
  const auto x = [&](std::int64_t row, std::int64_t column) {
    return probe.x()[static_cast<std::size_t>((row * 3 + column) * 2)];
  };
  EXPECT_NEAR(probe.y()[2], (x(2, 0) + x(2, 1) + x(3, 0) + x(3, 1)) / 4, 1e-6);
  probe.check();
}

TEST(ActivationLayer, HasTheRightGradients) {
  Probe(activation_layer(dnn::Function::sigmoid, 11), 11).check();
  Probe(activation_layer(dnn::Function::tanh, 11), 11).check();
}

TEST(ActivationLayer, ReluPassesWhatIsPositive) {
  Probe probe(activation_layer(dnn::Function::relu, 11), 11);
  const std::vector<float> dx = probe.input_gradient();
  for (std::size_t i = 0; i < dx.size(); ++i) {
    EXPECT_EQ(probe.y()[i], std::max(probe.x()[i], 0.0F));
    EXPECT_EQ(dx[i] != 0, probe.x()[i] > 0);
  }
}

TEST(BatchNormLayer, HasTheRightGradients) {
  Probe(batch_norm_layer("bn", 4, 3, Activation::none, Communicator::self()), 12).check();
}

TEST(DropoutLayer, HasTheRightGradients) {
  Probe(dropout_layer(0.4, 11, 1, 1), 11).check();
}

TEST(DropoutLayer, KeepsTheMeanAndDoesNothingWhenInferring) {
  constexpr std::int64_t width = 20'000;
  Probe probe(dropout_layer(0.25, width, 1, 1), width);
  std::fill(probe.x().begin(), probe.x().end(), 1.0F);
  probe.objective();
  const auto n = static_cast<double>(probe.y().size());
  const double mean = std::accumulate(probe.y().begin(), probe.y().end(), 0.0) / n;
  EXPECT_NEAR(mean, 1, 5 * std::sqrt(0.25 / 0.75 / n));

  Pass infer = probe.pass();
  infer.mode = Mode::infer;
  std::vector<float> y(probe.y().size());
  probe.layer().forward(infer, probe.x().data(), y.data());
  EXPECT_EQ(y, probe.x());
}

TEST(DropoutLayer, DropsTheSameOfASampleInAnyShard) {
  constexpr std::int64_t width = 9;
  Probe probe(dropout_layer(0.5, width, 1, 1), width);
  probe.objective();
  const Pass whole = probe.pass();
  std::vector<float> y(probe.y().size());
  for (const auto& [begin, size] : {std::pair{0, 2}, {2, 0}, {2, 3}}) {
    const Pass shard{
        Mode::train, whole.step,
        whole.samples.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(size))};
    probe.layer().forward(shard, probe.x().data() + begin * width, y.data() + begin * width);
  }
  EXPECT_EQ(y, probe.y());

  Pass next_step = whole;
  ++next_step.step;
  probe.layer().forward(next_step, probe.x().data(), y.data());
  EXPECT_NE(y, probe.y());
}

class WholeNetwork : public testing::TestWithParam<Network> {};

TEST_P(WholeNetwork, OnAnEmptyShardHasNoGradients) {
  TrainOptions options;
  options.network = GetParam();
  options.dropout = 0.5;
  for (const Norm norm : {Norm::none, Norm::sync}) {
    options.norm = norm;
    Model model = build_network(options, {9, 8, 1}, 10, Communicator::self());
    const Pass pass;
    EXPECT_EQ(model.forward(pass, {}).size(), 0);
    for (Parameter* parameter : model.parameters()) {
      std::fill(parameter->gradient.begin(), parameter->gradient.end(), 1.0);
    }
    model.backward(pass, {}, {});
    for (const Parameter* parameter : model.parameters()) {
      EXPECT_EQ(std::count(parameter->gradient.begin(), parameter->gradient.end(), 0.0),
                parameter->gradient.size())
          << parameter->name;
    }
  }
}

TEST_P(WholeNetwork, StartsWithTheSameWeightsWhateverTheNorm) {
  TrainOptions options;
  options.network = GetParam();
  options.norm = Norm::none;
  Model plain = build_network(options, {28, 28, 1}, 10, Communicator::self());
  options.norm = Norm::sync;
  Model normalized = build_network(options, {28, 28, 1}, 10, Communicator::self());
  int compared = 0;
  for (const Parameter* a : plain.parameters()) {
    for (const Parameter* b : normalized.parameters()) {
      if (a->name == b->name) {
        EXPECT_EQ(a->value, b->value) << a->name;
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 4);
}

INSTANTIATE_TEST_SUITE_P(Network, WholeNetwork, testing::Values(Network::mlp, Network::cnn),
                         [](const auto& about) { return std::string(to_string(about.param)); });

}  // namespace
}  // namespace syncbn::trainer
