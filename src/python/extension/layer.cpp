// SPDX-License-Identifier: Apache-2.0
#include <optional>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "core/visit_dtype.hpp"

#include "python/extension/group.hpp"
#include "python/extension/module.hpp"
#include "python/extension/tensor.hpp"
#include "python/extension/type.hpp"

namespace syncbn::python {
namespace {

/// Layer(group, name, channels, eps, momentum, affine, track_running_stats, negative_slope, exact)
PyObject* create(PyTypeObject* type, PyObject* arguments, PyObject*) {
  return guarded([&] {
    PyObject *group = nullptr, *momentum = nullptr;
    const char* name = nullptr;
    long long channels = 0;
    double eps = 0, negative_slope = 1;
    int affine = 0, track = 0, exact = 0;
    if (PyArg_ParseTuple(arguments, "OsLdOppdp", &group, &name, &channels, &eps, &momentum, &affine,
                         &track, &negative_slope, &exact) == 0) {
      throw PythonError();
    }
    BatchNormOptions options;
    options.name = name;
    options.eps = eps;
    options.momentum = momentum == Py_None ? std::nullopt : std::optional(to_double(momentum));
    options.affine = affine != 0;
    options.track_running_stats = track != 0;
    options.activation = {negative_slope};
    options.reproducibility =
        exact != 0 ? Reproducibility::exact : Reproducibility::rank_consistent;
    return Wrapper<BatchNorm>::wrap(
        type, std::make_unique<BatchNorm>(channels, communicator_of(group), options));
  });
}

/// Makes the layer use parameters and running statistics: weight, bias, running_mean, running_var,
/// num_batches_tracked. A framework may have moved them since the last call.
void use(BatchNorm& layer, Arguments memory) {
  layer.use({.weight = array_view(memory[0], "weight"),
             .bias = array_view(memory[1], "bias"),
             .running_mean = array_view(memory[2], "running_mean"),
             .running_var = array_view(memory[3], "running_var"),
             .num_batches_tracked = counter_view(memory[4], "num_batches_tracked")});
}
constexpr std::size_t memory_count = 5;

/// forward(*memory, record, x, y, residual, position_weights)
Object forward(BatchNorm& layer, Arguments arguments) {
  use(layer, arguments.first(memory_count));
  const Arguments given = arguments.subspan(memory_count);
  ForwardRecord& record = Wrapper<ForwardRecord>::of(given[0]);
  const TensorView x = tensor_view(given[1], "x");
  const TensorView y = tensor_view(given[2], "y");
  const ForwardExtras extras{.residual = tensor_view_if(given[3], "residual"),
                             .position_weights = weights_view(given[4], "position_weights")};
  {
    const Released python;
    layer.forward(x, y, record, extras);
  }
  return none();
}

/// infer(*memory, record, x, y, residual, position_weights)
Object infer(BatchNorm& layer, Arguments arguments) {
  use(layer, arguments.first(memory_count));
  const Arguments given = arguments.subspan(memory_count);
  ForwardRecord& record = Wrapper<ForwardRecord>::of(given[0]);
  const TensorView x = tensor_view(given[1], "x");
  const TensorView y = tensor_view(given[2], "y");
  const ForwardExtras extras{.residual = tensor_view_if(given[3], "residual"),
                             .position_weights = weights_view(given[4], "position_weights")};
  {
    const Released python;
    layer.infer(x, y, record, extras);
  }
  return none();
}

/// Writes doubles to an array of any float type.
void write(std::span<const double> from, const ArrayView& to) {
  if (to.size() != static_cast<std::int64_t>(from.size())) {
    throw InvalidArgument("a gradient has " + std::to_string(to.size()) +
                          " values (the layer has " + std::to_string(from.size()) + " channels)");
  }
  visit_dtype(to.dtype(), [&]<class T> {
    auto* const out = static_cast<T*>(to.data());
    for (std::size_t c = 0; c < from.size(); ++c) {
      out[c] = from_double<T>(from[c]);
    }
  });
}

/// backward(*memory, record, x, dy, dx, weight_grad, bias_grad, y, dresidual, position_weights):
/// overwrites the gradients.
Object backward(BatchNorm& layer, Arguments arguments) {
  use(layer, arguments.first(memory_count));
  const Arguments given = arguments.subspan(memory_count);
  const ForwardRecord& record = Wrapper<ForwardRecord>::of(given[0]);
  const TensorView x = tensor_view(given[1], "x");
  const TensorView dy = tensor_view(given[2], "dy");
  const TensorView dx = tensor_view(given[3], "dx");
  const ArrayView weight_grad = array_view(given[4], "weight_grad");
  const ArrayView bias_grad = array_view(given[5], "bias_grad");
  const std::optional<TensorView> y = tensor_view_if(given[6], "y");
  BackwardExtras extras{.dresidual = tensor_view_if(given[7], "dresidual"),
                        .position_weights = weights_view(given[8], "position_weights")};
  if (y) {
    extras.y = *y;
  }
  {
    const Released python;
    layer.zero_grad();
    layer.backward(record, x, dy, dx, extras);
    if (!weight_grad.empty()) {
      write(layer.weight_grad(), weight_grad);
    }
    if (!bias_grad.empty()) {
      write(layer.bias_grad(), bias_grad);
    }
  }
  return none();
}

PyMethodDef methods[] = {
    method_of<BatchNorm, memory_count + 5, forward>(
        "forward",
        "forward(weight, bias, running_mean, running_var, num_batches_tracked, record, x, "
        "y, residual, position_weights)"),
    method_of<BatchNorm, memory_count + 5, infer>(
        "infer",
        "infer(weight, bias, running_mean, running_var, num_batches_tracked, record, x, y, "
        "residual, position_weights)"),
    method_of<BatchNorm, memory_count + 9, backward>(
        "backward",
        "backward(weight, bias, running_mean, running_var, num_batches_tracked, record, "
        "x, dy, dx, weight_grad, bias_grad, y, dresidual, position_weights)"),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

Object make_layer_type() {
  return make_type<BatchNorm>(
      "syncbn._core.Layer", create, methods,
      "Layer(group, name, channels, eps, momentum, affine, track_running_stats, negative_slope, "
      "exact)");
}

}  // namespace syncbn::python
