// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "comm/device/device_sums.hpp"

namespace syncbn::comm {

std::unique_ptr<DeviceSum> nccl_sum(const Communicator&, Deadlines) {
  throw NotConfigured(
      "no sums over NCCL (built without it). Configure with -DSYNCBN_CUDA=ON "
      "-DSYNCBN_NCCL=ON, or take DeviceCommunicator::staged.");
}

}  // namespace syncbn::comm
