// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <fmt/format.h>

#include "app/study/report.hpp"

namespace syncbn::app::study {

std::string command_of(const Run& run) {
  const trainer::TrainOptions& options = run.options;
  const trainer::TrainOptions usual;
  std::string text = run.ranks > 1 ? fmt::format("mpirun -n {} ", run.ranks) : "";
  text += "syncbn train";
  const auto add = [&](const char* option, const auto& value, const auto& by_default) {
    if (value != by_default) {
      text += fmt::format(" --{} {}", option, value);
    }
  };
  add("model", to_string(options.network), to_string(usual.network));
  add("hidden-layers", options.hidden_layers, usual.hidden_layers);
  add("norm", to_string(options.norm), to_string(usual.norm));
  add("norm-samples", options.norm_samples.value_or(0), 0);
  if (options.activation) {
    text += fmt::format(" --activation {}", to_string(*options.activation));
  }
  add("dropout", options.dropout, usual.dropout);
  add("init-scale", options.init_scale, usual.init_scale);
  add("scaled-weights", to_string(options.scaled_weights), to_string(usual.scaled_weights));
  add("data", options.data.string(), usual.data.string());
  add("inputs", to_string(options.inputs), to_string(usual.inputs));
  add("training-images", options.training_images.value_or(0), 0);
  add("shards", to_string(options.shards), to_string(usual.shards));
  add("batch-size", options.batch_size, usual.batch_size);
  add("learning-rate", options.learning_rate, usual.learning_rate);
  add("momentum", options.momentum, usual.momentum);
  add("schedule", to_string(options.schedule), to_string(usual.schedule));
  add("steps", options.steps.value(), 0);
  add("seed", options.seed, usual.seed);
  return text;
}

}  // namespace syncbn::app::study
