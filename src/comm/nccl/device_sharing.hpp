// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace syncbn::comm::nccl {

/// Tells whether NCCL lets ranks have the same device: from 2.30.3 on, where the environment's
/// NCCL_MULTI_RANK_GPU_ENABLE is 1.
bool ranks_may_share_a_device();

/// Returns the version of the NCCL that is used: "2.28.9", or "emulated". Throws NotConfigured if
/// there is none.
std::string version();

}  // namespace syncbn::comm::nccl
