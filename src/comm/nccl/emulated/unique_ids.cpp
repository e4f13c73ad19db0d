// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/emulated/unique_ids.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "syncbn/error.hpp"

#include "core/shared_memory.hpp"

#include "comm/nccl/emulated/rendezvous.hpp"

namespace syncbn::comm::nccl::emulated {
namespace {

struct Open {
  std::mutex mutex;
  std::map<std::string, SharedMemory> memory;  ///< by address
};

Open& open_here() {
  static auto* const all = new Open;  // a thread may forget one while the process ends
  return *all;
}

}  // namespace

ncclUniqueId make_unique_id() {
  SharedMemory memory = SharedMemory::create(Rendezvous::bytes_for(most_ranks));
  const std::string address = memory.address();
  ncclUniqueId id{};
  if (address.size() >= sizeof id.internal) {
    throw CommError("an address that is too long: " + address);
  }
  std::ranges::copy(address, id.internal);
  Open& all = open_here();
  const std::scoped_lock lock(all.mutex);
  all.memory.emplace(address, std::move(memory));
  return id;
}

void forget(const ncclUniqueId& id) {
  Open& all = open_here();
  const std::scoped_lock lock(all.mutex);
  all.memory.erase(id.internal);
}

}  // namespace syncbn::comm::nccl::emulated
