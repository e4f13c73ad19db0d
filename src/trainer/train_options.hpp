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
  none,   ///< no batch norm layers
  local,  ///< each rank's own shard
  sync,   ///< the global batch
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
  return norm == Norm::none ? "none" : norm == Norm::local ? "local" : "sync";
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

  Network network = Network::cnn;
  Norm norm = Norm::sync;
  std::optional<dnn::Function> activation;  ///< unset: sigmoid for mlp, relu for cnn
  double dropout = 0;                       ///< probability, before dense layers but an mlp's first
  double init_scale = 1;                    ///< factor on the initial weights

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
