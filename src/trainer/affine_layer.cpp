// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "trainer/layers.hpp"
#include "trainer/weights.hpp"

namespace syncbn::trainer {
namespace {

/// Scales and shifts as batch norm does behind the normalization, and has the same parameters.
class AffineLayer final : public Layer {
 public:
  AffineLayer(const std::string& name, std::int64_t pixels, std::int64_t channels)
      : pixels_(pixels),
        channels_(channels),
        parameters_{filled(name + ".weight", {channels}, 1),
                    filled(name + ".bias", {channels}, 0)} {}

  std::int64_t output_size() const override { return pixels_ * channels_; }

  void forward(const Pass& pass, const float* x, float* y) override {
    const float* weight = parameters_[0].value.data();
    const float* bias = parameters_[1].value.data();
    for (std::int64_t position = 0; position < pass.size() * pixels_; ++position) {
      for (std::int64_t c = 0; c < channels_; ++c) {
        *y++ = weight[c] * *x++ + bias[c];
      }
    }
  }

  void backward(const Pass& pass, const float* x, const float*, const float* dy,
                float* dx) override {
    const float* weight = parameters_[0].value.data();
    std::vector<double>& weight_gradient = parameters_[0].gradient;
    std::vector<double>& bias_gradient = parameters_[1].gradient;
    std::ranges::fill(weight_gradient, 0.0);
    std::ranges::fill(bias_gradient, 0.0);
    for (std::int64_t position = 0; position < pass.size() * pixels_; ++position) {
      for (std::size_t c = 0; c < weight_gradient.size(); ++c) {
        weight_gradient[c] += static_cast<double>(*dy) * *x++;
        bias_gradient[c] += *dy;
        if (dx != nullptr) {
          *dx++ = weight[c] * *dy;
        }
        ++dy;
      }
    }
  }

  std::span<Parameter> parameters() override { return parameters_; }

 private:
  std::int64_t pixels_, channels_;
  std::array<Parameter, 2> parameters_;
};

}  // namespace

std::unique_ptr<Layer> affine_layer(const std::string& name, std::int64_t pixels,
                                    std::int64_t channels) {
  return std::make_unique<AffineLayer>(name, pixels, channels);
}

}  // namespace syncbn::trainer
