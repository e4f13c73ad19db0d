// SPDX-License-Identifier: Apache-2.0
#include "trainer/model.hpp"

#include <algorithm>
#include <utility>

#include "trainer/stopwatch.hpp"

namespace syncbn::trainer {

Model::Model(std::vector<std::unique_ptr<Layer>> layers)
    : layers_(std::move(layers)), outputs_(layers_.size()) {
  for (const std::unique_ptr<Layer>& layer : layers_) {
    widest_ = std::max(widest_, layer->output_size());
    for (Parameter& parameter : layer->parameters()) {
      parameters_.push_back(&parameter);
    }
  }
  reserve(1);
}

std::span<const float> Model::forward(const Pass& pass, std::span<const float> x) {
  reserve(pass.size());
  const float* input = x.data();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Stopwatch watch;
    layers_[i]->forward(pass, input, outputs_[i].data());
    input = outputs_[i].data();
    if (layers_[i]->is_batch_norm()) {
      batch_norm_seconds_ += watch.seconds();
    }
  }
  return std::span(outputs_.back()).first(static_cast<std::size_t>(pass.size() * output_size()));
}

void Model::backward(const Pass& pass, std::span<const float> x, std::span<const float> dy) {
  const float* gradient = dy.data();
  for (std::size_t i = layers_.size(); i-- > 0;) {
    const Stopwatch watch;
    const float* input = i > 0 ? outputs_[i - 1].data() : x.data();
    float* input_gradient = i > 0 ? gradients_[i % 2].data() : nullptr;
    layers_[i]->backward(pass, input, outputs_[i].data(), gradient, input_gradient);
    gradient = input_gradient;
    if (layers_[i]->is_batch_norm()) {
      batch_norm_seconds_ += watch.seconds();
    }
  }
}

void Model::reserve(std::int64_t samples) {
  if (samples <= reserved_) {
    return;
  }
  reserved_ = samples;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    outputs_[i].resize(static_cast<std::size_t>(samples * layers_[i]->output_size()));
  }
  for (TensorBuffer<float>& gradients : gradients_) {
    gradients.resize(static_cast<std::size_t>(samples * widest_));
  }
}

}  // namespace syncbn::trainer
