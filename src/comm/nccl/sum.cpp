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
#include "cuda/device.hpp"

namespace syncbn::comm {

std::unique_ptr<DeviceSum> nccl_sum(const Communicator& bootstrap, Deadlines deadlines) {
  nccl::require_everywhere(bootstrap, nccl::why_no_library());
  const std::string bus = syncbn::cuda::bus_address(syncbn::cuda::current_device());
  require_own_device(bootstrap, {this_host(), bus, nccl::ranks_may_share_a_device()});
  const ncclUniqueId id = nccl::share_unique_id(bootstrap);
  return stamped_sum(
      bootstrap, std::make_unique<nccl::Comm>(id, bootstrap.rank(), bootstrap.size(), deadlines),
      deadlines);
}

}  // namespace syncbn::comm
