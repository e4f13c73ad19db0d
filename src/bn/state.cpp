// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/batch_norm.hpp"
#include "bn/saved_values.hpp"

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

/// Returns 0 if there is none, as PyTorch does: files from before its version 0.4.1 lack it.
std::int64_t batches_of(const StateDict& state, const std::string& name) {
  const auto entry = state.tensors.find(name);
  if (entry == state.tensors.end()) {
    return 0;
  }
  const std::int64_t batches = entry->second.as_integer(name);
  constexpr std::int64_t most = std::int64_t{1} << 53;  // more are not counted exactly
  if (batches < 0 || batches > most) {
    throw FileError("tensor '" + name + "' is " + std::to_string(batches) +
                    " (a number of batches expected)");
  }
  return batches;
}

/// Returns whether the file of a layer with these options may hold a tensor of that name.
bool is_a_layers(std::string_view name, const BatchNormOptions& options) {
  const bool parameter = name == "weight" || name == "bias";
  const bool statistic =
      name == "running_mean" || name == "running_var" || name == "num_batches_tracked";
  return (parameter && options.affine) || (statistic && options.track_running_stats);
}

}  // namespace

void BatchNorm::save_state(StateDict& state, std::string_view prefix) const {
  const bn::Layer& layer = impl_->layer;
  const std::string base(prefix);
  const auto save = [&](const char* name, const std::vector<double>& values) {
    state.tensors[base + name] = bn::saved_values(base + name, values);
  };
  if (layer.options.affine) {
    save("weight", layer.weight);
    save("bias", layer.bias);
  }
  if (layer.options.track_running_stats) {
    save("running_mean", layer.running_mean);
    save("running_var", layer.running_var);
    state.tensors[base + "num_batches_tracked"] = StateTensor::from(layer.num_batches_tracked);
  }
}

void BatchNorm::load_state(const StateDict& state, std::string_view prefix) {
  const DefaultArithmetic arithmetic;
  bn::Layer& layer = impl_->layer;
  const std::string base(prefix);
  const auto channels = static_cast<std::size_t>(layer.channels);
  std::vector<double> weight, bias, mean, var;
  std::int64_t batches = 0;
  if (layer.options.affine) {
    weight = values_of(state, base + "weight", channels);
    bias = values_of(state, base + "bias", channels);
  }
  if (layer.options.track_running_stats) {
    mean = values_of(state, base + "running_mean", channels);
    var = values_of(state, base + "running_var", channels);
    if (std::ranges::any_of(var, [](double value) { return value < 0; })) {
      throw FileError("tensor '" + base + "running_var' holds negative variances");
    }
    batches = batches_of(state, base + "num_batches_tracked");
  }
  // Everything has been checked. Copying keeps the spans valid that were handed out.
  std::ranges::copy(weight, layer.weight.begin());
  std::ranges::copy(bias, layer.bias.begin());
  std::ranges::copy(mean, layer.running_mean.begin());
  std::ranges::copy(var, layer.running_var.begin());
  layer.num_batches_tracked = batches;
  // A state does not say what the last batches were, so the layer forgets them.
  std::ranges::fill(layer.start_mean, 0.0);
  std::ranges::fill(layer.start_var, 1.0);
  std::ranges::fill(layer.pivot, 0.0);
  layer.knows_mean = false;
  if (layer.is_exact()) {
    layer.working.exact->forget();
  }
}

void BatchNorm::save(const std::filesystem::path& file) const {
  StateDict state;
  save_state(state);
  save_safetensors(state, file);
}

void BatchNorm::load(const std::filesystem::path& file) {
  const StateDict state = load_safetensors(file);
  for (const auto& [name, tensor] : state.tensors) {
    if (!is_a_layers(name, options())) {
      throw FileError(
          "'" + file.string() + "' also holds '" + name +
          "' (a layer's own file has nothing else). Write the layer's tensors to a file "
          "of their own, or in C++ take them out of a model's by load_state with a "
          "prefix.");
    }
  }
  try {
    load_state(state);
  } catch (const FileError& error) {
    throw FileError("'" + file.string() + "': " + error.what());
  }
}

}  // namespace syncbn
