// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "syncbn/communicator.hpp"

#include "comm/device/device_sum.hpp"

namespace syncbn::comm {

// These make the sums of DeviceCommunicator's functions `self`, `staged` and `nccl`. In a build
// without CUDA all of them throw NotConfigured, in one without NCCL nccl_sum does.
std::unique_ptr<DeviceSum> self_sum();
std::unique_ptr<DeviceSum> staged_sum(Communicator host, Deadlines deadlines);
std::unique_ptr<DeviceSum> nccl_sum(const Communicator& bootstrap, Deadlines deadlines);

}  // namespace syncbn::comm
