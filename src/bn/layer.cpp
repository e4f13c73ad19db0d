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

void Layer::use(const LayerMemory& memory) {
  use_array(memory.weight, state.weight);
  use_array(memory.bias, state.bias);
  use_array(memory.weight_grad, state.weight_grad);
  use_array(memory.bias_grad, state.bias_grad);
  use_array(memory.running_mean, state.running_mean);
  use_array(memory.running_var, state.running_var);
  if (memory.num_batches_tracked != nullptr) {
    state.num_batches_tracked = memory.num_batches_tracked;
  }
}

}  // namespace syncbn::bn
