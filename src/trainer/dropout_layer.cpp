// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "trainer/layers.hpp"

namespace syncbn::trainer {
namespace {

/// Keeps no mask: what is dropped is a function of seed, layer, step and sample, drawn anew in the
/// backward pass.
class DropoutLayer final : public Layer {
 public:
  DropoutLayer(double probability, std::int64_t width, std::uint64_t seed, std::uint64_t layer)
      : probability_(probability),
        scale_(static_cast<float>(1 / (1 - probability))),
        width_(width),
        seed_(seed),
        layer_(layer) {}

  std::int64_t output_size() const override { return width_; }

  void forward(const Pass& pass, const float* x, float* y) override {
    if (pass.mode == Mode::infer) {
      std::copy_n(x, pass.size() * width_, y);
    } else {
      mask(pass, x, y);
    }
  }

  void backward(const Pass& pass, const float*, const float*, const float* dy, float* dx) override {
    if (dx != nullptr) {
      mask(pass, dy, dx);
    }
  }

 private:
  void mask(const Pass& pass, const float* in, float* out) const {
    for (const std::int64_t sample : pass.samples) {
      const Random random{static_cast<std::uint64_t>(Draw::dropout), seed_, layer_,
                          static_cast<std::uint64_t>(pass.step),
                          static_cast<std::uint64_t>(sample)};
      for (std::int64_t i = 0; i < width_; ++i) {
        const bool keep = random.uniform(static_cast<std::uint64_t>(i)) >= probability_;
        out[i] = keep ? in[i] * scale_ : 0.0F;
      }
      in += width_;
      out += width_;
    }
  }

  double probability_;
  float scale_;
  std::int64_t width_;
  std::uint64_t seed_, layer_;
};

}  // namespace

std::unique_ptr<Layer> dropout_layer(double probability, std::int64_t width, std::uint64_t seed,
                                     std::uint64_t layer) {
  return std::make_unique<DropoutLayer>(probability, width, seed, layer);
}

}  // namespace syncbn::trainer
