// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "syncbn/communicator.hpp"
#include "syncbn/device_communicator.hpp"

#include "comm/device/device_sum.hpp"

namespace syncbn::comm {

// These make the sums of DeviceCommunicator's functions of the same names. In a build without CUDA
// or an emulated device all of them throw NotConfigured, in one without NCCL nccl_sum does.
std::unique_ptr<DeviceSum> self_sum();
std::unique_ptr<DeviceSum> staged_sum(Communicator host, Deadlines deadlines);
std::unique_ptr<DeviceSum> nccl_sum(const Communicator& bootstrap, Deadlines deadlines);
std::unique_ptr<DeviceSum> custom_sum(const Communicator& host,
                                      DeviceCommunicator::AllReduce all_reduce, Deadlines deadlines,
                                      DeviceCommunicator::Abort abort);

}  // namespace syncbn::comm
