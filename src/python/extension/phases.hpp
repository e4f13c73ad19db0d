// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "python/extension/python.hpp"

namespace syncbn::python {

// Functions of the module, METH_FASTCALL.

/// local_sums(x, position_weights): returns bytes that depend on every element of this process's x.
PyObject* local_sums(PyObject* module, PyObject* const* arguments, Py_ssize_t count);

/// normalize(record, weight, bias, negative_slope, x, y, residual, position_weights): writes the y
/// of the forward that filled the record, given the same arguments.
PyObject* normalize(PyObject* module, PyObject* const* arguments, Py_ssize_t count);

}  // namespace syncbn::python
