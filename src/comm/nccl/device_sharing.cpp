// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/device_sharing.hpp"

#include <cstdlib>
#include <string_view>

#include <nccl.h>

#include "comm/nccl/check.hpp"

namespace syncbn::comm::nccl {
namespace {

int version_code() {
  int code = 0;
  check(ncclGetVersion(&code), "asking for its version");
  return code;
}

}  // namespace

bool ranks_may_share_a_device() {
  const char* enabled = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  return enabled != nullptr && std::string_view(enabled) == "1" && version_code() >= 23003;
}

std::string version() {
  const int code = version_code();
  return std::to_string(code / 10000) + "." + std::to_string(code / 100 % 100) + "." +
         std::to_string(code % 100);
}

}  // namespace syncbn::comm::nccl
