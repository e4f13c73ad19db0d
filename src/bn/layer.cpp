// SPDX-License-Identifier: Apache-2.0
#include "bn/layer.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "syncbn/error.hpp"

#include "bn/place.hpp"
#include "bn/validate.hpp"

namespace syncbn::bn {
namespace {

/// Throws InvalidArgument unless both arrays are given, or neither, and both fit the layer.
void require_pair(const ArrayView& one, const char* name, const ArrayView& other,
                  const char* other_name, bool has, const Layer& layer, const Place& place) {
  if (one.empty() && other.empty()) {
    return;
  }
  if (one.empty() || other.empty()) {
    throw InvalidArgument("layer '" + layer.identity.name + "': of " + name + " and " + other_name +
                          ", one is the caller's. Give both, or neither.");
  }
  if (!has) {
    throw InvalidArgument("layer '" + layer.identity.name + "' has no " + name + " and " +
                          other_name + " (see its options). Leave them out.");
  }
  for (const auto& [array, own_name] : {std::pair(one, name), std::pair(other, other_name)}) {
    require_array(own_name, array, layer.channels, place.device());
    require_held(own_name, array.data(), place.device());
  }
}

void use_array(const ArrayView& given, channels::Floats& in_use) {
  if (!given.empty()) {
    in_use = {given.data(), given.dtype()};
  }
}

}  // namespace

channels::RunningStatistics<> StateArrays::running() const {
  if (!running_mean) {
    return {};
  }
  return {running_mean, running_var, start_mean, start_var};
}

Layer::Layer(std::int64_t count, const BatchNormOptions& wanted, Identity of)
    : channels(count), options(wanted), identity(std::move(of)), options_text(to_text(wanted)) {
  options.name = identity.name;
}

void Layer::allocate(const Place& place) {
  constexpr std::size_t ones = 3, arrays = 9;
  const auto length = static_cast<std::size_t>(channels);
  std::vector<double> first_values(arrays * length, 0.0);
  std::fill_n(first_values.begin(), ones * length, 1.0);
  const std::int64_t no_batches = 0;
  const std::size_t bytes = first_values.size() * sizeof(double);
  memory_ = place.allocate(bytes + sizeof(no_batches));
  auto* next = static_cast<double*>(memory_.get());
  place.upload(std::as_bytes(std::span(first_values)), next, nullptr);
  place.upload(std::as_bytes(std::span(&no_batches, 1)), next + first_values.size(), nullptr);
  place.wait(nullptr);
  const auto array = [&] { return std::exchange(next, next + length); };
  const auto array_if = [&](bool wanted) {
    double* const values = array();
    return wanted ? channels::Floats(values) : channels::Floats();
  };
  own.weight = array_if(options.affine);
  own.running_var = array_if(options.track_running_stats);
  own.start_var = array();
  own.bias = array_if(options.affine);
  own.weight_grad = array_if(options.affine);
  own.bias_grad = array_if(options.affine);
  own.running_mean = array_if(options.track_running_stats);
  own.start_mean = array();
  own.pivot = array();
  if (options.track_running_stats) {
    own.num_batches_tracked = reinterpret_cast<std::int64_t*>(next);
  }
  state = own;
}

void Layer::use(const LayerMemory& memory, const Place& place) {
  require_pair(memory.weight, "weight", memory.bias, "bias", options.affine, *this, place);
  require_pair(memory.weight_grad, "weight_grad", memory.bias_grad, "bias_grad", options.affine,
               *this, place);
  require_pair(memory.running_mean, "running_mean", memory.running_var, "running_var",
               options.track_running_stats, *this, place);
  if (memory.num_batches_tracked != nullptr) {
    if (!options.track_running_stats) {
      throw InvalidArgument("layer '" + identity.name +
                            "' has no num_batches_tracked (see its options). Leave it out.");
    }
    require_aligned({"num_batches_tracked", memory.num_batches_tracked, sizeof(std::int64_t),
                     alignof(std::int64_t)});
    require_held("num_batches_tracked", memory.num_batches_tracked, place.device());
    state.num_batches_tracked = memory.num_batches_tracked;
  }
  use_array(memory.weight, state.weight);
  use_array(memory.bias, state.bias);
  use_array(memory.weight_grad, state.weight_grad);
  use_array(memory.bias_grad, state.bias_grad);
  use_array(memory.running_mean, state.running_mean);
  use_array(memory.running_var, state.running_var);
}

}  // namespace syncbn::bn
