// SPDX-License-Identifier: Apache-2.0
#include "trainer/layers.hpp"

namespace syncbn::trainer {
namespace {

class AveragePoolLayer final : public Layer {
 public:
  explicit AveragePoolLayer(dnn::Image input)
      : output_size_(input.height / 2 * (input.width / 2) * input.channels), pool_(input) {}

  std::int64_t output_size() const override { return output_size_; }

  void forward(const Pass& pass, const float* x, float* y) override {
    if (pass.size() > 0) {
      pool_.forward(pass.size(), x, y);
    }
  }

  void backward(const Pass& pass, const float*, const float*, const float* dy, float* dx) override {
    if (pass.size() > 0 && dx != nullptr) {
      pool_.backward(pass.size(), dy, dx);
    }
  }

 private:
  std::int64_t output_size_;
  dnn::AveragePool pool_;
};

}  // namespace

std::unique_ptr<Layer> average_pool_layer(dnn::Image input) {
  return std::make_unique<AveragePoolLayer>(input);
}

}  // namespace syncbn::trainer
