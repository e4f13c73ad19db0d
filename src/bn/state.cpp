// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/passes.hpp"

namespace syncbn {
namespace {

const StateTensor& find(const StateDict& state, const std::string& name) {
  const auto entry = state.tensors.find(name);
  if (entry == state.tensors.end()) {
    throw FileError("tensor '" + name +
                    "' is missing (is it another model's state, or was it saved "
                    "with other options?)");
  }
  return entry->second;
}

std::vector<double> values_of(const StateDict& state, const std::string& name,
                              std::size_t channels) {
  const StateTensor& tensor = find(state, name);
  std::vector<double> values = tensor.as_doubles(name);
  if (values.size() != channels || tensor.shape.size() != 1) {
    throw FileError("tensor '" + name + "' has " + std::to_string(tensor.shape.size()) +
                    " axes and " + std::to_string(values.size()) + " values (the layer has " +
                    std::to_string(channels) + " channels)");
  }
  if (!std::ranges::all_of(values, [](double value) { return std::isfinite(value); })) {
    throw FileError("tensor '" + name + "' holds values that are not finite");
  }
  return values;
}

}  // namespace

void BatchNorm::save_state(StateDict& state, std::string_view prefix) const {
  const std::string base(prefix);
  if (options_.affine) {
    state.tensors[base + "weight"] = StateTensor::from(weight_);
    state.tensors[base + "bias"] = StateTensor::from(bias_);
  }
  if (options_.track_running_stats) {
    state.tensors[base + "running_mean"] = StateTensor::from(running_mean_);
    state.tensors[base + "running_var"] = StateTensor::from(running_var_);
    state.tensors[base + "num_batches_tracked"] = StateTensor::from(num_batches_tracked_);
  }
}

void BatchNorm::load_state(const StateDict& state, std::string_view prefix) {
  const std::string base(prefix);
  const auto channels = static_cast<std::size_t>(channels_);
  std::vector<double> weight, bias, mean, var;
  std::int64_t batches = 0;
  if (options_.affine) {
    weight = values_of(state, base + "weight", channels);
    bias = values_of(state, base + "bias", channels);
  }
  if (options_.track_running_stats) {
    mean = values_of(state, base + "running_mean", channels);
    var = values_of(state, base + "running_var", channels);
    if (std::ranges::any_of(var, [](double value) { return value < 0; })) {
      throw FileError("tensor '" + base + "running_var' holds negative variances");
    }
    const std::string name = base + "num_batches_tracked";
    batches = find(state, name).as_integer(name);
    constexpr std::int64_t most = std::int64_t{1} << 53;  // more are not counted exactly
    if (batches < 0 || batches > most) {
      throw FileError("tensor '" + name + "' is " + std::to_string(batches) +
                      " (a number of batches expected)");
    }
  }
  // All is known to be right: take it, without moving the spans that were handed out.
  std::ranges::copy(weight, weight_.begin());
  std::ranges::copy(bias, bias_.begin());
  std::ranges::copy(mean, running_mean_.begin());
  std::ranges::copy(var, running_var_.begin());
  num_batches_tracked_ = batches;
  std::ranges::fill(start_mean_, 0.0);
  std::ranges::fill(start_var_, 1.0);
  std::ranges::fill(pivot_, 0.0);
  knows_mean_ = false;
  if (working_->exact) {
    working_->exact.emplace(channels_);  // what was before is not of this state
  }
}

void BatchNorm::save(const std::filesystem::path& file) const {
  StateDict state;
  save_state(state);
  save_safetensors(state, file);
}

void BatchNorm::load(const std::filesystem::path& file) {
  const StateDict state = load_safetensors(file);
  StateDict ours;
  save_state(ours);
  for (const auto& [name, tensor] : state.tensors) {
    if (!ours.tensors.contains(name)) {
      throw FileError("'" + file.string() + "' also holds '" + name +
                      "' (a layer's own file has nothing else). Use load_state with a prefix for a "
                      "model's file.");
    }
  }
  try {
    load_state(state);
  } catch (const FileError& error) {
    throw FileError("'" + file.string() + "': " + error.what());
  }
}

}  // namespace syncbn
