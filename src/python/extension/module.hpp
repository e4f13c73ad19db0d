// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "python/extension/python.hpp"

namespace syncbn::python {

/// Exceptions holds the module's exception types, which live as long as the process.
struct Exceptions {
  PyObject* error = nullptr;  ///< base of the others
  PyObject* invalid_argument = nullptr;
  PyObject* not_configured = nullptr;
  PyObject* comm_error = nullptr;
  PyObject* device_error = nullptr;

  static Exceptions& get();
};

// Each makes a type of the module. There is one of each in the process.
Object make_group_type();
Object make_device_group_type();
Object make_record_type();
Object make_layer_type();

}  // namespace syncbn::python
