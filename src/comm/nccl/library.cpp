// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/library.hpp"

#include <vector>

#include "syncbn/error.hpp"

#include "comm/group/descriptor.hpp"
#include "comm/nccl/check.hpp"

namespace syncbn::comm::nccl {

int version_code() {
  int code = 0;
  check(library().GetVersion(&code), "asking for its version");
  return code;
}

std::string version_text(int code) {
  return std::to_string(code / 10000) + "." + std::to_string(code / 100 % 100) + "." +
         std::to_string(code % 100);
}

void refuse(const std::string& why) {
  throw NotConfigured("no sums over NCCL (" + why +
                      "). Install NCCL 2.19 or newer where the dynamic loader finds libnccl.so.2 "
                      "(LD_LIBRARY_PATH), import the framework that brings its own before, or take "
                      "DeviceCommunicator::staged.");
}

std::string why_no_library() {
  try {
    library();
    return "";
  } catch (const NotConfigured& error) {
    return error.what();
  }
}

void require_everywhere(const Communicator& bootstrap, const std::string& why_not_here) {
  const double lacks = why_not_here.empty() ? 0 : 1;
  const std::vector<double> all = bootstrap.all_gather({&lacks, 1});
  std::vector<int> without;
  for (int rank = 0; rank < bootstrap.size(); ++rank) {
    if (all[static_cast<std::size_t>(rank)] != 0) {
      without.push_back(rank);
    }
  }
  if (!why_not_here.empty()) {
    throw NotConfigured(why_not_here);
  }
  if (!without.empty()) {
    refuse("none to use on " + list_ranks(without));
  }
}

}  // namespace syncbn::comm::nccl
