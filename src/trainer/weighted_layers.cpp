// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "trainer/layers.hpp"
#include "trainer/weights.hpp"

namespace syncbn::trainer {
namespace {

/// Multiplies by its weights. Product is dnn::Dense or dnn::Convolution.
template <class Product>
class WeightedLayer final : public Layer {
 public:
  template <class... Args>
  WeightedLayer(std::int64_t output_size, Weights weights, const Args&... args)
      : output_size_(output_size), weights_(std::move(weights)), product_(args...) {}

  std::int64_t output_size() const override { return output_size_; }

  void forward(const Pass& pass, const float* x, float* y) override {
    if (pass.size() > 0) {
      product_.forward(pass.size(), x, weights_.weight(), weights_.bias(), y);
    }
  }

  void backward(const Pass& pass, const float* x, const float*, const float* dy,
                float* dx) override {
    product_.backward_weights(pass.size(), x, dy, weights_.weight_gradient(),
                              weights_.bias_gradient());
    if (pass.size() > 0 && dx != nullptr) {
      product_.backward_data(pass.size(), weights_.weight(), dy, dx);
    }
  }

  std::span<Parameter> parameters() override { return weights_.parameters(); }

 private:
  std::int64_t output_size_;
  Weights weights_;
  Product product_;
};

}  // namespace

std::unique_ptr<Layer> dense_layer(const std::string& name, std::int64_t inputs,
                                   std::int64_t outputs, dnn::Bias bias,
                                   const Initialization& initialization) {
  return std::make_unique<WeightedLayer<dnn::Dense>>(
      outputs, Weights(name, {outputs, inputs}, bias, initialization), inputs, outputs, bias);
}

std::unique_ptr<Layer> convolution_layer(const std::string& name, dnn::Image input,
                                         std::int64_t filters, dnn::Bias bias,
                                         const Initialization& initialization) {
  constexpr std::int64_t filter_size = 3;
  return std::make_unique<WeightedLayer<dnn::Convolution>>(
      input.height * input.width * filters,
      Weights(name, {filters, input.channels, filter_size, filter_size}, bias, initialization),
      input, filters, filter_size, bias);
}

}  // namespace syncbn::trainer
