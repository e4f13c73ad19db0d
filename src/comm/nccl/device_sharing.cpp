// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/device_sharing.hpp"

#include <cstdlib>
#include <string_view>

#include "comm/nccl/library.hpp"

namespace syncbn::comm::nccl {

bool ranks_may_share_a_device() {
  const char* enabled = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  return enabled != nullptr && std::string_view(enabled) == "1" && version_code() >= 23003;
}

}  // namespace syncbn::comm::nccl
