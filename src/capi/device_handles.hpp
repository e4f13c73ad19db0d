// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/c/device.h"
#include "syncbn/device_communicator.hpp"

// This type is behind an opaque pointer of the C interface.

struct syncbn_device_communicator {
  syncbn::DeviceCommunicator group;
};
