// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "trainer/dnn.hpp"

namespace syncbn::trainer {

enum class Network : std::uint8_t {
  mlp,  ///< three hidden layers of 100, as in Ioffe & Szegedy (2015), section 4.1
  cnn,  ///< three convolutions of 16, 32 and 64 filters, each with 2x2 mean pooling, and a dense
        ///< layer
};

/// Says over which samples the batch norm layers take their statistics.
enum class Norm : std::uint8_t {
  none,    ///< no batch norm layers
  affine,  ///< none either: a learned scale and shift per channel stand in the layers' places, as
           ///< the control that tells whether it is normalizing that helps, or these parameters
  local,   ///< each rank's own shard
  sync,    ///< the global batch, or that of a sub-group (see TrainOptions::norm_samples)
};

/// Says how pixels become inputs.
enum class Inputs : std::uint8_t {
  grey,    ///< divided by the standard deviation of the training pixels
  binary,  ///< 1 from half of full intensity (128) on, else 0
};

/// Says which weights TrainOptions::init_scale scales.
enum class ScaledWeights : std::uint8_t {
  all,
  hidden,  ///< not the last layer's, behind which there is no batch norm
};

/// Says which samples of a global batch a rank takes.
enum class Shards : std::uint8_t {
  mixed,     ///< whichever the order of the epoch gives
  by_label,  ///< the batch is sorted by label first, so that a rank's samples are of few classes
};

/// Says how the learning rate changes over the run.
enum class Schedule : std::uint8_t {
  constant,
  cosine,  ///< falls to 0 along half a cosine
  step,    ///< a tenth after half of the run, a hundredth after three quarters
};

constexpr std::string_view to_string(Network network) {
  return network == Network::mlp ? "mlp" : "cnn";
}

constexpr std::string_view to_string(Norm norm) {
  return norm == Norm::none     ? "none"
         : norm == Norm::affine ? "affine"
         : norm == Norm::local  ? "local"
                                : "sync";
}

constexpr std::string_view to_string(Inputs inputs) {
  return inputs == Inputs::grey ? "grey" : "binary";
}

constexpr std::string_view to_string(ScaledWeights scaled) {
  return scaled == ScaledWeights::all ? "all" : "hidden";
}

constexpr std::string_view to_string(Shards shards) {
  return shards == Shards::mixed ? "mixed" : "by-label";
}

constexpr std::string_view to_string(Schedule schedule) {
  return schedule == Schedule::constant ? "constant"
         : schedule == Schedule::cosine ? "cosine"
                                        : "step";
}

namespace dnn {
constexpr std::string_view to_string(Function function) {
  return function == Function::sigmoid ? "sigmoid" : function == Function::tanh ? "tanh" : "relu";
}
}  // namespace dnn

/// Holds everything that determines a run. All ranks have the same.
struct TrainOptions {
  /// Debian's package dataset-fashion-mnist puts its files here.
  std::filesystem::path data = "/usr/share/datasets/fashion-mnist";
  Inputs inputs = Inputs::grey;
  std::optional<std::int64_t> training_images;  ///< at most the first so many; unset: all
  Shards shards = Shards::mixed;

  Network network = Network::cnn;
  std::int64_t hidden_layers = 3;  ///< of an mlp
  Norm norm = Norm::sync;
  /// With Norm::sync: statistics are taken over sub-groups of consecutive ranks, each with at least
  /// so many of a step's samples (Communicator::split_by_samples); unset: over all ranks.
  std::optional<std::int64_t> norm_samples;
  std::optional<dnn::Function> activation;  ///< unset: sigmoid for mlp, relu for cnn
  double dropout = 0;                       ///< probability, before dense layers but an mlp's first
  double init_scale = 1;                    ///< factor on the initial weights
  ScaledWeights scaled_weights = ScaledWeights::all;

  std::int64_t batch_size = 64;  ///< global: of all ranks together
  double learning_rate = 0.03;
  double momentum = 0.9;
  Schedule schedule = Schedule::cosine;
  std::optional<std::int64_t> epochs;  ///< length of the run; 4 without epochs and steps
  std::optional<std::int64_t> steps;   ///< length of the run, in steps
  std::uint64_t seed = 1;

  std::filesystem::path save;  ///< checkpoint, written at the end of each epoch and the run
  std::optional<std::int64_t> save_every;  ///< steps between further checkpoints
  std::filesystem::path resume;            ///< checkpoint to go on from; empty paths: none

  dnn::Function chosen_activation() const;
};

/// Throws InvalidArgument for values out of range and for options that contradict each other.
void validate(const TrainOptions& options);

/// Returns the steps of the whole run, from 0, also for one that resumes.
std::int64_t total_steps(const TrainOptions& options, std::int64_t steps_per_epoch);

}  // namespace syncbn::trainer
