// SPDX-License-Identifier: Apache-2.0
#include "trainer/layers.hpp"

namespace syncbn::trainer {
namespace {

class ActivationLayer final : public Layer {
 public:
  ActivationLayer(dnn::Function function, std::int64_t width)
      : width_(width), function_(function, width) {}

  std::int64_t output_size() const override { return width_; }
  bool is_activation() const override { return true; }

  void forward(const Pass& pass, const float* x, float* y) override {
    if (pass.size() > 0) {
      function_.forward(pass.size(), x, y);
    }
  }

  void backward(const Pass& pass, const float*, const float* y, const float* dy,
                float* dx) override {
    if (pass.size() > 0 && dx != nullptr) {
      function_.backward(pass.size(), y, dy, dx);
    }
  }

 private:
  std::int64_t width_;
  dnn::Elementwise function_;
};

}  // namespace

std::unique_ptr<Layer> activation_layer(dnn::Function function, std::int64_t width) {
  return std::make_unique<ActivationLayer>(function, width);
}

}  // namespace syncbn::trainer
