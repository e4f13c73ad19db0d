// SPDX-License-Identifier: Apache-2.0
#include "trainer/train_options.hpp"

#include <cmath>

#include <fmt/format.h>

#include "syncbn/error.hpp"

namespace syncbn::trainer {
namespace {

constexpr std::int64_t default_epochs = 4;
const std::int64_t default_hidden_layers = TrainOptions().hidden_layers;

void require(bool holds, std::string_view option, double value, std::string_view accepted) {
  if (!holds) {
    throw InvalidArgument(fmt::format("--{} {} ({} is accepted)", option, value, accepted));
  }
}

void require_positive(std::string_view option, const std::optional<std::int64_t>& value) {
  if (value) {
    require(*value >= 1, option, static_cast<double>(*value), "a number from 1");
  }
}

}  // namespace

dnn::Function TrainOptions::chosen_activation() const {
  const auto usual = network == Network::mlp ? dnn::Function::sigmoid : dnn::Function::relu;
  return activation.value_or(usual);
}

void validate(const TrainOptions& options) {
  require_positive("batch-size", options.batch_size);
  require_positive("epochs", options.epochs);
  require_positive("steps", options.steps);
  require_positive("save-every", options.save_every);
  require_positive("training-images", options.training_images);
  require_positive("norm-samples", options.norm_samples);
  require_positive("hidden-layers", options.hidden_layers);
  require(std::isfinite(options.learning_rate) && options.learning_rate > 0, "learning-rate",
          options.learning_rate, "a number above 0");
  require(options.momentum >= 0 && options.momentum < 1, "momentum", options.momentum,
          "0 up to, but not, 1");
  require(options.dropout >= 0 && options.dropout < 1, "dropout", options.dropout,
          "0 up to, but not, 1");
  require(std::isfinite(options.init_scale) && options.init_scale > 0, "init-scale",
          options.init_scale, "a number above 0");
  if (options.network != Network::mlp && options.hidden_layers != default_hidden_layers) {
    throw InvalidArgument(fmt::format(
        "--hidden-layers {} is for the mlp (the cnn has its three convolutions). Give --model mlp.",
        options.hidden_layers));
  }
  if (options.norm != Norm::sync && options.norm_samples) {
    throw InvalidArgument(fmt::format(
        "--norm-samples needs --norm sync (with --norm {} there are no groups of ranks).",
        to_string(options.norm)));
  }
  if (options.epochs && options.steps) {
    throw InvalidArgument(
        "--epochs and --steps contradict each other (both set the length of the "
        "run). Give one of them.");
  }
  if (options.save_every && options.save.empty()) {
    throw InvalidArgument("--save-every needs --save (the file to write).");
  }
}

std::int64_t total_steps(const TrainOptions& options, std::int64_t steps_per_epoch) {
  return options.steps.value_or(options.epochs.value_or(default_epochs) * steps_per_epoch);
}

}  // namespace syncbn::trainer
