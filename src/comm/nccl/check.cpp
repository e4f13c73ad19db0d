// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/check.hpp"

#include <string>

#include "syncbn/error.hpp"

#include "comm/nccl/library.hpp"

namespace syncbn::comm::nccl {

void check(ncclResult_t code, const char* doing, std::source_location where) {
  if (code != ncclSuccess && code != ncclInProgress) {
    throw CommError(std::string("NCCL failed ") + doing + " (" + explain(code) + ") at " +
                    where.file_name() + ":" + std::to_string(where.line()));
  }
}

std::string explain(ncclResult_t code) {
  std::string text = library().GetErrorString(code);
  if (const char* details = library().GetLastError(nullptr); details != nullptr && *details != 0) {
    text += std::string(": ") + details;
  }
  return text;
}

}  // namespace syncbn::comm::nccl
