// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include <nccl.h>

namespace syncbn::comm::nccl::emulated {

/// A failure that a test plants, for one rank's next call of one function.
struct Failure {
  /// Function's name without its prefix "nccl". CommGetAsyncError itself succeeds, and reports that
  /// the communicator is in the state `code` from then on; "CommGetAsyncError()" is the call that
  /// fails.
  std::string function;
  int rank = 0;  ///< of the communicator that the call is for; 0 where it is for none
  /// What the call returns, without doing anything. An AllReduce that returns ncclInProgress puts
  /// the sum on the stream a little later.
  ncclResult_t code = ncclSystemError;
  std::string details = {};  ///< what GetLastError says after that
};

/// Plants a failure in this process, beside others that are planted. Any thread may call this.
void plant(Failure failure);

/// Returns the code of the failure that was planted for this call, if any, which is then no longer
/// planted.
std::optional<ncclResult_t> planted(const char* function, int rank);

/// Returns `code`, and has `last_error` say `details` from now on.
ncclResult_t failed(ncclResult_t code, std::string details);

/// Returns what `failed` was told last in this process. The text is the calling thread's until its
/// next call.
const char* last_error();

}  // namespace syncbn::comm::nccl::emulated
