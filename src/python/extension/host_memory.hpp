// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/device.hpp"

namespace syncbn::python {

/// Returns the device that a tensor in the host's memory is on: the CPU. In a build with an
/// emulated device, whose memory is the host's, it is that device if the environment variable
/// SYNCBN_EMULATED_TENSORS is 1, so that tests take the way of tensors on a device.
Device device_of_host_memory();

}  // namespace syncbn::python
