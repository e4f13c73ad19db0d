// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/unique_id.hpp"

#include <span>

#include "syncbn/error.hpp"

#include "comm/group/broadcast.hpp"
#include "comm/nccl/check.hpp"
#include "comm/nccl/library.hpp"

namespace syncbn::comm::nccl {

ncclUniqueId share_unique_id(const Communicator& bootstrap) {
  struct {
    ncclUniqueId id{};
    ncclResult_t code = ncclSuccess;
  } made;
  if (bootstrap.rank() == 0) {
    made.code = library().GetUniqueId(&made.id);
  }
  broadcast(bootstrap, std::as_writable_bytes(std::span(&made, 1)));
  check(made.code, "making a unique id on rank 0");
  return made.id;
}

}  // namespace syncbn::comm::nccl
