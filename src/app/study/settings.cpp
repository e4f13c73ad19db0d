// SPDX-License-Identifier: Apache-2.0
#include "app/study/settings.hpp"

#include <algorithm>

#include <boost/crc.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace syncbn::app::study {
namespace {

std::string text_of(const Recording& recording) {
  return fmt::format("steps {} hidden_inputs {} one_process {} population {}",
                     fmt::join(recording.steps, ","), recording.hidden_inputs,
                     recording.one_process, recording.population ? population_images : 0);
}

/// Returns all that makes the run what it is, in a line.
std::string line_of(const Run& run) {
  std::string line = fmt::format("{} ranks {} {}", run.name, run.ranks, text_of(run.recording));
  for (const Setting& setting : settings_of(run)) {
    if (setting.option != "data") {
      line += fmt::format(" {} {}", setting.option, setting.value);
    }
  }
  return line + "\n";
}

}  // namespace

std::vector<Setting> settings_of(const Run& run) {
  const trainer::TrainOptions& options = run.options;
  const trainer::TrainOptions usual;
  std::vector<Setting> settings;
  const auto add = [&](const char* option, const auto& value, const auto& by_default) {
    settings.push_back({option, fmt::format("{}", value), fmt::format("{}", by_default)});
  };
  add("model", to_string(options.network), to_string(usual.network));
  add("hidden-layers", options.hidden_layers, usual.hidden_layers);
  add("norm", to_string(options.norm), to_string(usual.norm));
  add("norm-samples", options.norm_samples.value_or(0), 0);
  add("activation", options.activation ? to_string(*options.activation) : "", "");
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
  return settings;
}

std::string checksum_of(std::span<const Run> runs) {
  std::vector<std::string> lines;
  for (const Run& run : runs) {
    lines.push_back(line_of(run));
  }
  std::ranges::sort(lines);
  boost::crc_32_type crc;
  for (const std::string& line : lines) {
    crc.process_bytes(line.data(), line.size());
  }
  return fmt::format("{:08x}", crc.checksum());
}

}  // namespace syncbn::app::study
