// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>

namespace syncbn::comm::nccl::emulated {

/// Makes memory in which the ranks of a communicator can meet, and returns its address as an id.
/// This process keeps the memory open until `forget`. Throws CommError.
ncclUniqueId make_unique_id();

/// Closes the memory of an id, if this process has made it. The ranks who have opened it keep it.
void forget(const ncclUniqueId& id);

}  // namespace syncbn::comm::nccl::emulated
