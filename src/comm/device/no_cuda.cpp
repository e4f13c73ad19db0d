// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "comm/device/device_sums.hpp"

namespace syncbn::comm {
namespace {

[[noreturn]] void refuse() {
  throw NotConfigured(
      "no sums of device memory (built without CUDA). Configure with "
      "-DSYNCBN_CUDA=ON.");
}

}  // namespace

std::unique_ptr<DeviceSum> self_sum() {
  refuse();
}
std::unique_ptr<DeviceSum> staged_sum(Communicator, Deadlines) {
  refuse();
}

}  // namespace syncbn::comm
