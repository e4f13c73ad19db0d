// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/communicator.hpp"
#include "syncbn/device_communicator.hpp"

namespace syncbn::test {

/// Sums of the memory of a device that is the host (device_on_host.cpp), over these ranks.
DeviceCommunicator on_host(Communicator ranks);

}  // namespace syncbn::test
