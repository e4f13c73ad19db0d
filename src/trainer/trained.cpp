// SPDX-License-Identifier: Apache-2.0
#include "trainer/trained.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "trainer/float_state.hpp"

namespace syncbn::trainer {

StateDict descent_state(const Trained& trained) {
  StateDict state;
  for (const Parameter* parameter : trained.model.parameters()) {
    state.tensors[parameter->name] = floats(parameter->value, parameter->shape);
  }
  trained.sgd.save_state(state);
  return state;
}

StateDict layer_state(const Trained& trained) {
  StateDict state;
  for (const auto& layer : trained.model.layers()) {
    layer->save_state(state);
  }
  for (const Parameter* parameter : trained.model.parameters()) {
    state.tensors.erase(parameter->name);
  }
  return state;
}

void load_state(const Trained& trained, const StateDict& state) {
  for (Parameter* parameter : trained.model.parameters()) {
    // Copied, because layers hold on to the memory of their parameters.
    std::ranges::copy(read_floats(state, parameter->name, parameter->shape),
                      parameter->value.begin());
  }
  trained.sgd.load_state(state);
  for (const auto& layer : trained.model.layers()) {
    layer->load_state(state);
  }
}

std::vector<double> flatten(const StateDict& state) {
  std::vector<double> values;
  for (const auto& [name, tensor] : state.tensors) {
    if (tensor.dtype == StateDType::i64) {
      values.push_back(static_cast<double>(tensor.as_integer(name)));
    } else {
      const std::vector<double> elements = tensor.as_doubles(name);
      values.insert(values.end(), elements.begin(), elements.end());
    }
  }
  return values;
}

StateDict unflatten(const StateDict& like, const double* values) {
  StateDict state;
  for (const auto& [name, tensor] : like.tensors) {
    if (tensor.dtype == StateDType::i64) {
      state.tensors[name] = StateTensor::from(static_cast<std::int64_t>(*values++));
    } else {
      const std::size_t size = tensor.bytes.size() / size_of(tensor.dtype);
      StateTensor& copy = state.tensors[name];
      copy = StateTensor::from(std::vector<double>(values, values + size));
      copy.shape = tensor.shape;
      values += size;
    }
  }
  return state;
}

}  // namespace syncbn::trainer
