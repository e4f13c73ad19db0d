// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/emulated/failures.hpp"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace syncbn::comm::nccl::emulated {
namespace {

struct Failures {
  std::mutex mutex;
  std::vector<Failure> planted;
  std::string last;
};

Failures& failures() {
  static auto* const all = new Failures;  // a thread may fail while the process ends
  return *all;
}

}  // namespace

void plant(Failure failure) {
  Failures& all = failures();
  const std::scoped_lock lock(all.mutex);
  all.planted.push_back(std::move(failure));
}

std::optional<ncclResult_t> planted(const char* function, int rank) {
  Failures& all = failures();
  const std::scoped_lock lock(all.mutex);
  const auto found = std::ranges::find_if(all.planted, [&](const Failure& one) {
    return one.function == function && one.rank == rank;
  });
  if (found == all.planted.end()) {
    return std::nullopt;
  }
  const ncclResult_t code = found->code;
  all.last = std::move(found->details);
  all.planted.erase(found);
  return code;
}

ncclResult_t failed(ncclResult_t code, std::string details) {
  Failures& all = failures();
  const std::scoped_lock lock(all.mutex);
  all.last = std::move(details);
  return code;
}

const char* last_error() {
  thread_local std::string text;
  Failures& all = failures();
  const std::scoped_lock lock(all.mutex);
  text = all.last;
  return text.c_str();
}

}  // namespace syncbn::comm::nccl::emulated
