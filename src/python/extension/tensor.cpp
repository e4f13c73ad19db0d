// SPDX-License-Identifier: Apache-2.0
#include "python/extension/tensor.hpp"

#include <array>
#include <string_view>
#include <vector>

#include "syncbn/error.hpp"

#include "python/extension/dlpack.hpp"
#include "python/extension/host_memory.hpp"

namespace syncbn::python {
namespace {

constexpr std::size_t most_dimensions = 8;

/// What is to be known of a tensor.
struct Borrowed {
  std::byte* data = nullptr;
  Device device;
  std::optional<DType> dtype;  ///< none for types that are no floats of ours
  bool is_int64 = false;
  std::size_t dimensions = 0;
  std::array<std::int64_t, most_dimensions> shape{};
  std::array<std::int64_t, most_dimensions> strides{};  ///< in elements
};

[[noreturn]] void refuse(const char* name, const std::string& why) {
  throw InvalidArgument(std::string(name) + " " + why);
}

std::size_t dimensions_of(const char* name, Py_ssize_t count) {
  if (count < 0 || static_cast<std::size_t>(count) > most_dimensions) {
    refuse(name, "has " + std::to_string(count) + " dimensions. Give it at most " +
                     std::to_string(most_dimensions) + ".");
  }
  return static_cast<std::size_t>(count);
}

// --- through DLPack's exchange interface ---------------------------------------------------------

/// Returns the table that a type of tensors has; null if it has none.
const dlpack::ExchangeApi* find_api(PyObject* type) {
  const Object capsule(PyObject_GetAttrString(type, dlpack::ExchangeApi::attribute));
  if (capsule == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  const auto* api = static_cast<const dlpack::ExchangeApi*>(
      PyCapsule_GetPointer(capsule.get(), dlpack::ExchangeApi::capsule));
  if (api == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  const bool usable = api->header.major == dlpack::ExchangeApi::major_version &&
                      api->dltensor_from_py_object_no_sync != nullptr;
  return usable ? api : nullptr;
}

/// Returns the same, from a small memory of the types that came last: tensors and parameters.
const dlpack::ExchangeApi* api_of(PyObject* tensor) {
  struct Known {
    PyObject* type = nullptr;  ///< kept alive
    const dlpack::ExchangeApi* api = nullptr;
  };
  static std::array<Known, 4> known;
  static std::size_t next = 0;
  auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(tensor));
  for (const Known& entry : known) {
    if (entry.type == type) {
      return entry.api;
    }
  }
  Known& entry = known[next++ % known.size()];
  Py_XDECREF(entry.type);
  entry = {Py_NewRef(type), find_api(type)};
  return entry.api;
}

std::optional<DType> dtype_of(const dlpack::DataType& type) {
  if (type.lanes != 1) {
    return {};
  }
  if (type.code == dlpack::TypeCode::bfloat && type.bits == 16) {
    return DType::bf16;
  }
  if (type.code == dlpack::TypeCode::floating) {
    switch (type.bits) {
      case 16:
        return DType::f16;
      case 32:
        return DType::f32;
      case 64:
        return DType::f64;
      default:
        return {};
    }
  }
  return {};
}

Device device_of(const dlpack::Device& device, const char* name) {
  switch (device.type) {
    case dlpack::DeviceType::cpu:
    case dlpack::DeviceType::cuda_host:
      return device_of_host_memory();
    case dlpack::DeviceType::cuda:
    case dlpack::DeviceType::cuda_managed:
      return Device::cuda(device.index);
  }
  refuse(name, "is on a device of DLPack's kind " +
                   std::to_string(static_cast<std::int32_t>(device.type)) +
                   ". Move it to the CPU or a CUDA device.");
}

Borrowed borrow(const dlpack::ExchangeApi& api, PyObject* object, const char* name) {
  dlpack::Tensor tensor{};
  check(api.dltensor_from_py_object_no_sync(object, &tensor));
  Borrowed borrowed;
  borrowed.data = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
  borrowed.device = device_of(tensor.device, name);
  borrowed.dtype = dtype_of(tensor.dtype);
  borrowed.is_int64 = tensor.dtype.code == dlpack::TypeCode::integer && tensor.dtype.bits == 64;
  borrowed.dimensions = dimensions_of(name, tensor.ndim);
  std::copy_n(tensor.shape, borrowed.dimensions, borrowed.shape.begin());
  std::copy_n(tensor.strides, borrowed.dimensions, borrowed.strides.begin());
  return borrowed;
}

// --- through PyTorch's attributes ----------------------------------------------------------------

Object attribute(PyObject* object, const char* name) {
  return checked(PyObject_GetAttrString(object, name));
}

Object call_method(PyObject* object, const char* name) {
  return checked(PyObject_CallMethod(object, name, nullptr));
}

void copy_integers(PyObject* sequence, std::array<std::int64_t, most_dimensions>& to,
                   std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const Object item = checked(PySequence_GetItem(sequence, static_cast<Py_ssize_t>(i)));
    to[i] = to_integer(item.get());
  }
}

std::optional<DType> dtype_named(std::string_view name) {
  if (name == "torch.float32") {
    return DType::f32;
  }
  if (name == "torch.float64") {
    return DType::f64;
  }
  if (name == "torch.float16") {
    return DType::f16;
  }
  if (name == "torch.bfloat16") {
    return DType::bf16;
  }
  return {};
}

Borrowed borrow_attributes(PyObject* object, const char* name) {
  Borrowed borrowed;
  borrowed.device = device_of_host_memory();
  borrowed.data = reinterpret_cast<std::byte*>(
      static_cast<std::uintptr_t>(to_integer(call_method(object, "data_ptr").get())));
  const Object device = attribute(object, "device");
  const std::string kind = to_text(attribute(device.get(), "type").get());
  if (kind == "cuda") {
    borrowed.device =
        Device::cuda(static_cast<int>(to_integer(attribute(device.get(), "index").get())));
  } else if (kind != "cpu") {
    refuse(name, "is on '" + kind + "'. Move it to the CPU or a CUDA device.");
  }
  const std::string dtype = to_text(checked(PyObject_Str(attribute(object, "dtype").get())).get());
  borrowed.dtype = dtype_named(dtype);
  borrowed.is_int64 = dtype == "torch.int64";
  const Object shape = attribute(object, "shape");
  const Py_ssize_t dimensions = PySequence_Size(shape.get());
  check(static_cast<int>(dimensions));
  borrowed.dimensions = dimensions_of(name, dimensions);
  copy_integers(shape.get(), borrowed.shape, borrowed.dimensions);
  copy_integers(call_method(object, "stride").get(), borrowed.strides, borrowed.dimensions);
  return borrowed;
}

Borrowed borrow(PyObject* tensor, const char* name) {
  if (const dlpack::ExchangeApi* api = api_of(tensor)) {
    return borrow(*api, tensor, name);
  }
  return borrow_attributes(tensor, name);
}

// --- layouts -------------------------------------------------------------------------------------

/// Returns whether elements lie without gaps if `order` names the axes from the fastest to the
/// slowest. The stride of an axis of one element says nothing.
bool lies_in_order(const Borrowed& tensor, std::span<const std::size_t> order) {
  std::int64_t expected = 1;
  for (const std::size_t axis : order) {
    if (tensor.shape[axis] != 1 && tensor.strides[axis] != expected) {
      return false;
    }
    expected *= tensor.shape[axis];
  }
  return true;
}

/// Returns the layout of a dense tensor [N, C, ...]; none if it is not dense.
std::optional<Layout> layout_of(const Borrowed& tensor) {
  const std::size_t axes = tensor.dimensions;
  std::int64_t elements = 1;
  std::array<std::size_t, most_dimensions> order{};
  for (std::size_t i = 0; i < axes; ++i) {
    order[i] = axes - 1 - i;
    elements *= tensor.shape[i];
  }
  if (elements == 0 || lies_in_order(tensor, {order.data(), axes})) {
    return Layout::channels_first;
  }
  // The channels' axis, 1, comes first, then the others from the last to the batch's.
  std::array<std::size_t, most_dimensions> last{1};
  std::size_t next = 1;
  for (std::size_t i = 0; i < axes; ++i) {
    if (order[i] != 1) {
      last[next++] = order[i];
    }
  }
  if (lies_in_order(tensor, {last.data(), axes})) {
    return Layout::channels_last;
  }
  return {};
}

Shape shape_of(const Borrowed& tensor) {
  Shape shape{.n = tensor.shape[0], .c = tensor.shape[1], .s = 1};
  for (std::size_t i = 2; i < tensor.dimensions; ++i) {
    shape.s *= tensor.shape[i];
  }
  return shape;
}

std::int64_t elements_of(const Borrowed& tensor) {
  std::int64_t elements = 1;
  for (std::size_t i = 0; i < tensor.dimensions; ++i) {
    elements *= tensor.shape[i];
  }
  return elements;
}

/// Requires that the elements of an array lie one after the other.
void require_contiguous(const Borrowed& tensor, const char* name) {
  std::array<std::size_t, most_dimensions> order{};
  for (std::size_t i = 0; i < tensor.dimensions; ++i) {
    order[i] = tensor.dimensions - 1 - i;
  }
  if (!lies_in_order(tensor, {order.data(), tensor.dimensions})) {
    refuse(name, "is not contiguous. Call contiguous().");
  }
}

}  // namespace

TensorView tensor_view(PyObject* object, const char* name) {
  const Borrowed tensor = borrow(object, name);
  if (tensor.dimensions < 2) {
    refuse(name, "has " + std::to_string(tensor.dimensions) + " dimensions. Give it [N, C, ...].");
  }
  if (!tensor.dtype) {
    refuse(name, "is of a type that is not float32, float64, float16 or bfloat16. Convert it.");
  }
  const std::optional<Layout> layout = layout_of(tensor);
  if (!layout) {
    refuse(name, "is neither contiguous nor channels last. Call contiguous().");
  }
  return {tensor.data, *tensor.dtype, shape_of(tensor), *layout, tensor.device};
}

std::optional<TensorView> tensor_view_if(PyObject* object, const char* name) {
  if (object == Py_None) {
    return {};
  }
  return tensor_view(object, name);
}

bool is_like(PyObject* object, PyObject* other_object) {
  const Borrowed tensor = borrow(object, "the tensor");
  const Borrowed other = borrow(other_object, "the other tensor");
  return tensor.dtype == other.dtype && tensor.device == other.device &&
         tensor.dimensions == other.dimensions && tensor.shape == other.shape &&
         layout_of(tensor).has_value() && layout_of(tensor) == layout_of(other);
}

Device device_of(PyObject* tensor, const char* name) {
  return borrow(tensor, name).device;
}

CudaStream stream_of(PyObject* tensor, Device device) {
  if (device.is_cpu() || device_of_host_memory() == device) {
    return nullptr;
  }
  const dlpack::ExchangeApi* const api = api_of(tensor);
  if (api != nullptr && api->current_work_stream != nullptr) {
    void* stream = nullptr;
    check(api->current_work_stream(dlpack::DeviceType::cuda, device.index(), &stream));
    return static_cast<CudaStream>(stream);
  }
  const Object torch = checked(PyImport_ImportModule("torch.cuda"));
  const Object stream =
      checked(PyObject_CallMethod(torch.get(), "current_stream", "i", device.index()));
  const Object handle = attribute(stream.get(), "cuda_stream");
  return reinterpret_cast<CudaStream>(static_cast<std::uintptr_t>(to_integer(handle.get())));
}

void* address_of(PyObject* tensor, const char* name) {
  const Borrowed borrowed = borrow(tensor, name);
  require_contiguous(borrowed, name);
  return borrowed.data;
}

ArrayView array_view(PyObject* object, const char* name) {
  if (object == Py_None) {
    return {};
  }
  const Borrowed tensor = borrow(object, name);
  if (!tensor.dtype) {
    refuse(name, "is of a type that is not float32, float64, float16 or bfloat16. Convert it.");
  }
  require_contiguous(tensor, name);
  return {tensor.data, *tensor.dtype, elements_of(tensor), tensor.device};
}

std::span<const float> weights_view(PyObject* object, const char* name) {
  const ArrayView view = array_view(object, name);
  if (!view.empty() && view.dtype() != DType::f32) {
    refuse(name, "is not of float32. Convert it.");
  }
  return {static_cast<const float*>(view.data()), static_cast<std::size_t>(view.size())};
}

std::int64_t* counter_view(PyObject* object, const char* name) {
  if (object == Py_None) {
    return nullptr;
  }
  const Borrowed tensor = borrow(object, name);
  if (!tensor.is_int64 || elements_of(tensor) != 1) {
    refuse(name, "is not one integer of 64 bits. Make it torch.tensor(0).");
  }
  return reinterpret_cast<std::int64_t*>(tensor.data);
}

}  // namespace syncbn::python
