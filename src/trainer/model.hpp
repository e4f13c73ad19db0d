// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "trainer/layer.hpp"
#include "trainer/tensor_memory.hpp"

namespace syncbn::trainer {

/// Runs layers one behind the other, and keeps the activations between them.
class Model {
 public:
  explicit Model(std::vector<std::unique_ptr<Layer>> layers);

  std::int64_t output_size() const { return layers_.back()->output_size(); }

  /// Returns [pass.size(), output_size()], valid until the next forward. x [pass.size(), input
  /// size] stays the caller's and must live until the backward. Collective in Mode::train if the
  /// batch norm layers are.
  std::span<const float> forward(const Pass& pass, std::span<const float> x);

  /// Goes back through the last forward, which was in Mode::train. Collective in the same way.
  /// Leaves this rank's share of the gradients in parameters().
  void backward(const Pass& pass, std::span<const float> x, std::span<const float> dy);

  std::span<Parameter* const> parameters() { return parameters_; }
  std::span<const std::unique_ptr<Layer>> layers() const { return layers_; }
  /// Returns what a layer made of the last forward's samples: [samples, its output_size()], valid
  /// until the next forward.
  const float* output_of(std::size_t layer) const { return outputs_[layer].data(); }

  /// Returns the time spent in batch norm layers so far, their exchange included [s].
  double batch_norm_seconds() const { return batch_norm_seconds_; }

 private:
  void reserve(std::int64_t samples);

  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<Parameter*> parameters_;
  std::int64_t widest_ = 0;                   ///< largest output_size()
  std::int64_t reserved_ = 0;                 ///< samples the buffers have room for
  std::vector<TensorBuffer<float>> outputs_;  ///< per layer
  TensorBuffer<float> gradients_[2];  ///< gradients of a layer's output and its input, in turn
  double batch_norm_seconds_ = 0;
};

}  // namespace syncbn::trainer
