// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "syncbn/array_view.hpp"
#include "syncbn/device.hpp"
#include "syncbn/tensor_view.hpp"

#include "python/extension/python.hpp"

namespace syncbn::python {

// The functions below look at a framework's tensor, which must live until the view has served.
// Where its type has DLPack's exchange interface (PyTorch from 2.10 on) they read it there, else
// from the attributes and methods that PyTorch's tensors have. They throw InvalidArgument, naming
// `name`, for tensors that are no fit.

/// Returns a view of a tensor [N, C, ...], which must be dense: contiguous, or channels last.
TensorView tensor_view(PyObject* tensor, const char* name);
/// Returns the same, or nothing for None.
std::optional<TensorView> tensor_view_if(PyObject* tensor, const char* name);

/// Tells whether a tensor can be viewed, and then has the shape, type, layout and device of
/// another, which can.
bool is_like(PyObject* tensor, PyObject* other);

/// Returns where a tensor is.
Device device_of(PyObject* tensor, const char* name);

/// Returns the stream on which the framework of a tensor puts its work on a device; null for the
/// CPU.
CudaStream stream_of(PyObject* tensor, Device device);

/// Returns a view of a contiguous tensor of any dimensions; an empty one for None.
ArrayView array_view(PyObject* tensor, const char* name);

/// Returns a view of contiguous float32, [N, ...] in the memory of any device; an empty one for
/// None.
std::span<const float> weights_view(PyObject* tensor, const char* name);

/// Returns the address of a contiguous tensor of any type.
void* address_of(PyObject* tensor, const char* name);

/// Returns the address of a contiguous tensor of one 64-bit integer, null for None.
std::int64_t* counter_view(PyObject* tensor, const char* name);

}  // namespace syncbn::python
