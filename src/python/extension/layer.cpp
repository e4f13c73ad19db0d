// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <memory>
#include <optional>

#include <sys/mman.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"
#include "syncbn/phases.hpp"

#include "core/visit_dtype.hpp"

#include "cuda/device.hpp"
#include "python/extension/group.hpp"
#include "python/extension/module.hpp"
#include "python/extension/tensor.hpp"
#include "python/extension/type.hpp"

namespace syncbn::python {
namespace {

/// What a Python layer holds: the library's, and memory for the phases that it calls by themselves.
struct PythonLayer {
  BatchNorm layer;
  Scratch scratch;
};

/// Returns a function that allocates by one of Python's, which makes a tensor of so many bytes.
Allocate python_allocate(PyObject* function) {
  return [kept = kept_for_any_thread(function)](std::size_t bytes) -> std::shared_ptr<void> {
    constexpr std::size_t alignment = 256;  // which the library requires on a device
    const Acquired python;
    std::size_t space = bytes + alignment;
    const Object tensor =
        checked(PyObject_CallFunction(kept.get(), "n", static_cast<Py_ssize_t>(space)));
    void* memory = address_of(tensor.get(), "memory");
    std::align(alignment, bytes, memory, space);
    return {kept_for_any_thread(tensor.get()), memory};
  };
}

/// Layer(group, name, channels, eps, momentum, affine, track_running_stats, negative_slope, exact)
/// of a group on the CPU; of one on a device with `allocate`, a function that makes tensors of so
/// many bytes there, and its gradients of weight and bias, None for a layer without, behind them.
PyObject* create(PyTypeObject* type, PyObject* arguments, PyObject*) {
  return guarded([&] {
    PyObject *group = nullptr, *momentum = nullptr, *allocate = nullptr;
    PyObject *weight_grad = Py_None, *bias_grad = Py_None;
    const char* name = nullptr;
    long long channels = 0;
    double eps = 0, negative_slope = 1;
    int affine = 0, track = 0, exact = 0;
    if (PyArg_ParseTuple(arguments, "OsLdOppdp|OOO", &group, &name, &channels, &eps, &momentum,
                         &affine, &track, &negative_slope, &exact, &allocate, &weight_grad,
                         &bias_grad) == 0) {
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
    if (allocate == nullptr) {
      return Wrapper<PythonLayer>::wrap(
          type, std::make_unique<PythonLayer>(BatchNorm(channels, communicator_of(group), options),
                                              Scratch()));
    }
    const DeviceCommunicator& on_device = device_communicator_of(group);
    const Allocate by_python = python_allocate(allocate);
    const LayerMemory memory{.weight_grad = array_view(weight_grad, "weight_grad"),
                             .bias_grad = array_view(bias_grad, "bias_grad"),
                             .allocate = by_python};
    std::unique_ptr<PythonLayer> made;
    {
      const cuda::OnDevice device(on_device.device().index());
      const Released python;
      made = std::make_unique<PythonLayer>(BatchNorm(channels, on_device, options, memory),
                                           Scratch(by_python));
    }
    return Wrapper<PythonLayer>::wrap(type, std::move(made));
  });
}

/// Where a call's work goes, for the time of the call: on the layer's device, to the stream on
/// which the tensors' framework works.
class Work {
 public:
  Work(const BatchNorm& layer, PyObject* tensor) : stream_(stream_of(tensor, layer.device())) {
    if (!layer.device().is_cpu()) {
      on_device_.emplace(layer.device().index());
    }
  }
  CudaStream stream() const { return stream_; }

 private:
  CudaStream stream_;
  std::optional<cuda::OnDevice> on_device_;
};

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

/// Asks the system for huge pages where an output of the CPU's lies. PyTorch gets fresh memory for
/// every large tensor, and to get it in pages of 4 KiB takes about as long as to write it. Only
/// whole pages of the tensor's own are asked for. The request stays with the memory when the tensor
/// is gone; contents do not change.
void prefer_huge_pages(const TensorView& output) {
#ifdef MADV_HUGEPAGE  // Linux
  constexpr std::uintptr_t huge = 2 << 20;
  if (!output.device().is_cpu()) {
    return;
  }
  const auto address = reinterpret_cast<std::uintptr_t>(output.data());
  const std::uintptr_t bytes =
      static_cast<std::uintptr_t>(output.shape().size()) * size_of(output.dtype());
  const std::uintptr_t begin = (address + huge - 1) / huge * huge;
  const std::uintptr_t end = (address + bytes) / huge * huge;
  if (begin < end) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // if it fails, no harm
  }
#endif
}

/// What forward, infer and normalize are given behind the layer's memory: record, x, y, residual,
/// position_weights.
struct ForwardGiven {
  ForwardGiven(const BatchNorm& layer, Arguments given)
      : record(Wrapper<ForwardRecord>::of(given[0])),
        x(tensor_view(given[1], "x")),
        y(tensor_view(given[2], "y")),
        work(layer, given[1]),
        extras{.residual = tensor_view_if(given[3], "residual"),
               .position_weights = weights_view(given[4], "position_weights"),
               .stream = work.stream()} {
    prefer_huge_pages(y);
  }

  ForwardRecord& record;
  TensorView x;
  TensorView y;
  Work work;
  ForwardExtras extras;
};

/// forward(*memory, record, x, y, residual, position_weights)
Object forward(PythonLayer& self, Arguments arguments) {
  use(self.layer, arguments.first(memory_count));
  const ForwardGiven given(self.layer, arguments.subspan(memory_count));
  {
    const Released python;
    self.layer.forward(given.x, given.y, given.record, given.extras);
  }
  return none();
}

/// infer(*memory, record, x, y, residual, position_weights)
Object infer(PythonLayer& self, Arguments arguments) {
  use(self.layer, arguments.first(memory_count));
  const ForwardGiven given(self.layer, arguments.subspan(memory_count));
  {
    const Released python;
    self.layer.infer(given.x, given.y, given.record, given.extras);
  }
  return none();
}

/// normalize(weight, bias, record, x, y, residual, position_weights): writes the y of the forward
/// that filled the record again. Local.
Object normalize(PythonLayer& self, Arguments arguments) {
  const Affine affine{array_view(arguments[0], "weight"), array_view(arguments[1], "bias")};
  const ForwardGiven given(self.layer, arguments.subspan(2));
  {
    const Released python;
    syncbn::normalize(given.x, {given.record.mean(), given.record.invstd()}, affine,
                      self.layer.options().activation, given.extras.residual, given.y,
                      given.extras.position_weights,
                      {.stream = given.work.stream(), .scratch = &self.scratch});
  }
  return none();
}

/// local_sums(x, position_weights, memory): writes this process's own sums of x, 2C + 1 doubles, to
/// the memory of 3C + 1, whose last C are 0. Local.
Object local_sums(PythonLayer& self, Arguments arguments) {
  const TensorView x = tensor_view(arguments[0], "x");
  const PositionWeights weights = weights_view(arguments[1], "position_weights");
  const ArrayView memory = array_view(arguments[2], "memory");
  const std::size_t length = sums_length(x.shape().c);
  const auto channels = static_cast<std::size_t>(x.shape().c);
  if (memory.dtype() != DType::f64 ||
      static_cast<std::size_t>(memory.size()) != length + channels) {
    throw InvalidArgument("memory has " + std::to_string(memory.size()) + " values (" +
                          std::to_string(length + channels) + " of float64 are needed)");
  }
  const std::span<double> values(static_cast<double*>(memory.data()), length + channels);
  const Work work(self.layer, arguments[0]);
  {
    const Released python;
    forward_sums(x, values.subspan(length), values.first(length), weights,
                 {.stream = work.stream(), .scratch = &self.scratch});
  }
  return none();
}

/// Writes doubles of the CPU's memory to an array of any float type.
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
/// overwrites the gradients. Those of weight and bias are None for a layer on a device, which
/// overwrites those that it was made with.
Object backward(PythonLayer& self, Arguments arguments) {
  BatchNorm& layer = self.layer;
  use(layer, arguments.first(memory_count));
  const Arguments given = arguments.subspan(memory_count);
  const ForwardRecord& record = Wrapper<ForwardRecord>::of(given[0]);
  const TensorView x = tensor_view(given[1], "x");
  const TensorView dy = tensor_view(given[2], "dy");
  const TensorView dx = tensor_view(given[3], "dx");
  prefer_huge_pages(dx);
  const ArrayView weight_grad = array_view(given[4], "weight_grad");
  const ArrayView bias_grad = array_view(given[5], "bias_grad");
  const std::optional<TensorView> y = tensor_view_if(given[6], "y");
  const Work work(layer, given[1]);
  BackwardExtras extras{.dresidual = tensor_view_if(given[7], "dresidual"),
                        .position_weights = weights_view(given[8], "position_weights"),
                        .stream = work.stream()};
  if (y) {
    extras.y = *y;
  }
  {
    const Released python;
    layer.zero_grad(work.stream());
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
    method_of<PythonLayer, memory_count + 5, forward>(
        "forward",
        "forward(weight, bias, running_mean, running_var, num_batches_tracked, record, x, "
        "y, residual, position_weights)"),
    method_of<PythonLayer, memory_count + 5, infer>(
        "infer",
        "infer(weight, bias, running_mean, running_var, num_batches_tracked, record, x, y, "
        "residual, position_weights)"),
    method_of<PythonLayer, 7, normalize>(
        "normalize",
        "normalize(weight, bias, record, x, y, residual, position_weights): writes a forward's y "
        "again."),
    method_of<PythonLayer, 3, local_sums>(
        "local_sums",
        "local_sums(x, position_weights, memory): writes numbers that depend on every element of "
        "x to the first 2C + 1 of 3C + 1 doubles, all 0."),
    method_of<PythonLayer, memory_count + 9, backward>(
        "backward",
        "backward(weight, bias, running_mean, running_var, num_batches_tracked, record, "
        "x, dy, dx, weight_grad, bias_grad, y, dresidual, position_weights)"),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

Object make_layer_type() {
  return make_type<PythonLayer>(
      "syncbn._core.Layer", create, methods,
      "Layer(group, name, channels, eps, momentum, affine, track_running_stats, negative_slope, "
      "exact[, allocate, weight_grad, bias_grad])");
}

}  // namespace syncbn::python
