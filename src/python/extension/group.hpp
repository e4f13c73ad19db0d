// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/communicator.hpp"
#include "syncbn/device_communicator.hpp"

#include "python/extension/type.hpp"

namespace syncbn::python {

/// Returns the communicator of a Python object of the type that make_group_type made.
inline Communicator& communicator_of(PyObject* group) {
  return Wrapper<Communicator>::of(group);
}

/// Returns the communicator of a Python object of the type that make_device_group_type made.
inline DeviceCommunicator& device_communicator_of(PyObject* group) {
  return Wrapper<DeviceCommunicator>::of(group);
}

}  // namespace syncbn::python
