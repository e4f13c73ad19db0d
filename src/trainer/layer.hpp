// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/state.hpp"

namespace syncbn::trainer {

/// Holds a trained tensor, under the name it has in a checkpoint, and its gradient: the sum over
/// this rank's samples.
struct Parameter {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> value;
  std::vector<double> gradient;
};

enum class Mode : std::uint8_t { train, infer };

/// Describes one pass over this rank's shard of a batch.
struct Pass {
  Mode mode = Mode::train;
  std::int64_t step = 0;
  std::span<const std::int64_t> samples;  ///< their numbers in the data set; may be none
  std::int64_t size() const { return static_cast<std::int64_t>(samples.size()); }
};

/// Computes one stage of a network. Activations are [samples, sample size] floats, images channels
/// last.
class Layer {
 public:
  virtual ~Layer() = default;

  virtual std::int64_t output_size() const = 0;  ///< floats per sample

  virtual void forward(const Pass& pass, const float* x, float* y) = 0;
  /// Takes x and y of the last forward, which was in Mode::train. Overwrites the parameters'
  /// gradients and dx, which is null if nobody needs it.
  virtual void backward(const Pass& pass, const float* x, const float* y, const float* dy,
                        float* dx) = 0;

  virtual std::span<Parameter> parameters() { return {}; }
  virtual bool is_batch_norm() const { return false; }
  virtual bool is_activation() const { return false; }

  /// Collect the population's statistics over the forwards in training mode that come between the
  /// two calls. The second is collective over all ranks, and puts them in the place of running
  /// statistics. Layers without these do nothing.
  virtual void begin_population() {}
  virtual void end_population(const Communicator& /*ranks*/) {}

  /// Save and load what training changes besides the parameters. Batch norm's parameters are among
  /// it.
  virtual void save_state(StateDict&) const {}
  virtual void load_state(const StateDict&) {}
};

}  // namespace syncbn::trainer
