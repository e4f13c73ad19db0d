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
#include "bn/state_values.hpp"

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

/// Returns the values of an entry, which are to be kept in `array`.
std::vector<double> values_of(const StateDict& state, const std::string& name, std::size_t channels,
                              const channels::Floats& array) {
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
  if (!std::ranges::all_of(values, [&](double value) {
        return std::isfinite(channels::rounded(value, array.dtype()));
      })) {
    throw FileError("tensor '" + name + "' holds values beyond " +
                    std::string(to_string(array.dtype())) +
                    ", the type that the layer keeps them in");
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

/// Forgets what the last batches were, which a state does not say. Waits for the stream.
void forget_batches(BatchNorm::Impl& impl, CudaStream stream) {
  bn::Layer& layer = impl.layer;
  const bn::Place& place = *impl.place;
  const auto channels = static_cast<std::size_t>(layer.channels);
  bn::upload(std::vector<double>(channels, 0.0), layer.state.start_mean, place, stream);
  bn::upload(std::vector<double>(channels, 1.0), layer.state.start_var, place, stream);
  bn::upload(std::vector<double>(channels, 0.0), layer.state.pivot, place, stream);
  layer.knows_mean = false;
  impl.place->forget(stream);
  place.wait(stream);
}

/// Throws InvalidArgument unless a population can have so many elements. It is no whole number
/// where their weights are none.
void require_count(double count) {
  if (!std::isfinite(count) || count < 0) {
    throw InvalidArgument("the population has a count of " + std::to_string(count) +
                          " (a finite number of elements, or sum of their weights, of 0 or more "
                          "expected). Pass the count that finish gave.");
  }
}

/// Throws InvalidArgument unless the values can be running statistics that are kept in `array`.
void require_storable(const char* name, const std::vector<double>& values,
                      const channels::Floats& array) {
  for (std::size_t c = 0; c < values.size(); ++c) {
    if (!std::isfinite(values[c]) || !std::isfinite(channels::rounded(values[c], array.dtype()))) {
      throw InvalidArgument(std::string(name) + "[" + std::to_string(c) +
                            "] of the population is " + std::to_string(values[c]) +
                            " (finite values of " + std::string(to_string(array.dtype())) +
                            " are kept). Has training diverged?");
    }
  }
}

}  // namespace

void BatchNorm::save_state(StateDict& state, std::string_view prefix, CudaStream stream) const {
  const bn::Layer& layer = impl_->layer;
  const std::string base(prefix);
  const auto save = [&](const char* name, const channels::Floats& array) {
    state.tensors[base + name] =
        bn::saved_values(base + name, bn::download(array, layer.channels, *impl_->place, stream));
  };
  if (layer.options.affine) {
    save("weight", layer.state.weight);
    save("bias", layer.state.bias);
  }
  if (layer.options.track_running_stats) {
    save("running_mean", layer.state.running_mean);
    save("running_var", layer.state.running_var);
    std::int64_t batches = 0;
    impl_->place->download(layer.state.num_batches_tracked,
                           std::as_writable_bytes(std::span(&batches, 1)), stream);
    impl_->place->wait(stream);
    state.tensors[base + "num_batches_tracked"] = StateTensor::from(batches);
  }
}

void BatchNorm::load_state(const StateDict& state, std::string_view prefix, CudaStream stream) {
  const DefaultArithmetic arithmetic;
  bn::Layer& layer = impl_->layer;
  const bn::Place& place = *impl_->place;
  const std::string base(prefix);
  const auto channels = static_cast<std::size_t>(layer.channels);
  std::vector<double> weight, bias, mean, var;
  std::int64_t batches = 0;
  if (layer.options.affine) {
    weight = values_of(state, base + "weight", channels, layer.state.weight);
    bias = values_of(state, base + "bias", channels, layer.state.bias);
  }
  if (layer.options.track_running_stats) {
    mean = values_of(state, base + "running_mean", channels, layer.state.running_mean);
    var = values_of(state, base + "running_var", channels, layer.state.running_var);
    if (std::ranges::any_of(var, [](double value) { return value < 0; })) {
      throw FileError("tensor '" + base + "running_var' holds negative variances");
    }
    batches = batches_of(state, base + "num_batches_tracked");
  }
  // Everything has been checked.
  bn::upload(weight, layer.state.weight, place, stream);
  bn::upload(bias, layer.state.bias, place, stream);
  bn::upload(mean, layer.state.running_mean, place, stream);
  bn::upload(var, layer.state.running_var, place, stream);
  if (layer.options.track_running_stats) {
    place.upload(std::as_bytes(std::span(&batches, 1)), layer.state.num_batches_tracked, stream);
  }
  forget_batches(*impl_, stream);
}

void BatchNorm::set_running_statistics(const Statistics& population, CudaStream stream) {
  const DefaultArithmetic arithmetic;
  const bn::Layer& layer = impl_->layer;
  const bn::Place& place = *impl_->place;
  if (!layer.options.track_running_stats) {
    throw NotConfigured(
        "the layer has no running statistics (track_running_stats is false). Make it with them.");
  }
  const auto channels = static_cast<std::size_t>(layer.channels);
  if (population.mean.size() != channels || population.var.size() != channels) {
    throw InvalidArgument("the population has " + std::to_string(population.mean.size()) +
                          " means and " + std::to_string(population.var.size()) +
                          " variances (the layer has " + std::to_string(channels) + " channels)");
  }
  require_count(population.count);
  if (population.count == 0) {
    return;
  }
  std::vector<double> unbiased = population.var;
  for (double& value : unbiased) {
    if (value < 0) {
      throw InvalidArgument("the population has a negative variance.");
    }
    value *= population.count / (population.count - 1);
  }
  const bool has_variance = population.count >= 2;
  require_storable("mean", population.mean, layer.state.running_mean);
  if (has_variance) {
    require_storable("var", unbiased, layer.state.running_var);
    bn::upload(unbiased, layer.state.running_var, place, stream);
  }
  bn::upload(population.mean, layer.state.running_mean, place, stream);
  forget_batches(*impl_, stream);
}

void BatchNorm::save(const std::filesystem::path& file, CudaStream stream) const {
  StateDict state;
  save_state(state, {}, stream);
  save_safetensors(state, file);
}

void BatchNorm::load(const std::filesystem::path& file, CudaStream stream) {
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
    load_state(state, {}, stream);
  } catch (const FileError& error) {
    throw FileError("'" + file.string() + "': " + error.what());
  }
}

}  // namespace syncbn
