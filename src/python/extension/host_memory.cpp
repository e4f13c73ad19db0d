// SPDX-License-Identifier: Apache-2.0
#include "python/extension/host_memory.hpp"

namespace syncbn::python {

Device device_of_host_memory() {
  return Device::cpu();
}

}  // namespace syncbn::python
