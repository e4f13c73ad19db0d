// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "comm/device/device_sums.hpp"
#include "comm/nccl/device_sharing.hpp"

namespace syncbn::comm {
namespace {

[[noreturn]] void refuse() {
  throw NotConfigured(
      "no sums over NCCL (built without it). Configure with -DSYNCBN_CUDA=ON "
      "-DSYNCBN_NCCL=ON, or take DeviceCommunicator::staged.");
}

}  // namespace

std::unique_ptr<DeviceSum> nccl_sum(const Communicator&, Deadlines) {
  refuse();
}

std::string nccl::version() {
  refuse();
}

}  // namespace syncbn::comm
