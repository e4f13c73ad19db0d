// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "syncbn/communicator.hpp"

#include "comm/device_sum.hpp"

namespace syncbn::comm {

/// See DeviceCommunicator. Without CUDA, or NCCL, they throw NotConfigured.
std::unique_ptr<DeviceSum> self_sum();
std::unique_ptr<DeviceSum> staged_sum(Communicator host, Deadlines deadlines);
std::unique_ptr<DeviceSum> nccl_sum(const Communicator& bootstrap, Deadlines deadlines);

}  // namespace syncbn::comm
