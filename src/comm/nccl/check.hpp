// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <source_location>
#include <string>

#include <nccl.h>

namespace syncbn::comm::nccl {

/// Throws CommError unless the code is ncclSuccess, or ncclInProgress, after which the caller has
/// to ask NCCL for the outcome (Comm does). The message is what we were doing, what NCCL says, and
/// where in our code.
void check(ncclResult_t code, const char* doing,
           std::source_location where = std::source_location::current());

/// Returns what NCCL says of a failure on this thread.
std::string explain(ncclResult_t code);

}  // namespace syncbn::comm::nccl
