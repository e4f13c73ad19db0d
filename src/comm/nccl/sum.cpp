// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>

#include "comm/device/device_place.hpp"
#include "comm/device/device_sums.hpp"
#include "comm/device/stamped_sum.hpp"
#include "comm/group/this_host.hpp"
#include "comm/nccl/comm.hpp"
#include "comm/nccl/device_sharing.hpp"
#include "comm/nccl/library.hpp"
#include "comm/nccl/unique_id.hpp"
#include "cuda/check.hpp"
#include "cuda/device.hpp"

namespace syncbn::comm {
namespace {

std::string bus_of_current_device() {
  std::string bus(20, '\0');
  syncbn::cuda::check(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()),
                                            syncbn::cuda::current_device()),
                      "asking for a device's address");
  return bus.c_str();
}

}  // namespace

std::unique_ptr<DeviceSum> nccl_sum(const Communicator& bootstrap, Deadlines deadlines) {
  nccl::require_everywhere(bootstrap, nccl::why_no_library());
  require_own_device(bootstrap,
                     {this_host(), bus_of_current_device(), nccl::ranks_may_share_a_device()});
  const ncclUniqueId id = nccl::share_unique_id(bootstrap);
  return stamped_sum(
      bootstrap, std::make_unique<nccl::Comm>(id, bootstrap.rank(), bootstrap.size(), deadlines),
      deadlines);
}

}  // namespace syncbn::comm
