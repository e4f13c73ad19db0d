// SPDX-License-Identifier: Apache-2.0
//
// NCCL for emulated devices, which ranks may share. It does what NCCL's non-blocking communicators
// do, and sums doubles only. Ranks are threads or processes of one host.

#include "comm/nccl/library.hpp"

#include <array>
#include <memory>
#include <span>
#include <string>

#include "syncbn/error.hpp"

#include "comm/nccl/device_sharing.hpp"
#include "comm/nccl/emulated/communicator.hpp"
#include "comm/nccl/emulated/failures.hpp"
#include "comm/nccl/emulated/unique_ids.hpp"

namespace syncbn::comm::nccl {
namespace emulated {
namespace {

ncclResult_t get_version(int* version) {
  *version = 23003;  // the first that lets ranks share a device
  return ncclSuccess;
}

const char* get_error_string(ncclResult_t code) {
  constexpr std::array texts = {"no error",
                                "unhandled cuda error",
                                "unhandled system error",
                                "internal error",
                                "invalid argument",
                                "invalid usage",
                                "remote process exited or there was a network error",
                                "NCCL operation in progress"};
  const auto number = static_cast<std::size_t>(code);
  return number < texts.size() ? texts[number] : "unknown result code";
}

const char* get_last_error(ncclComm_t) {
  return last_error();
}

ncclResult_t get_unique_id(ncclUniqueId* id) {
  if (const auto code = planted("GetUniqueId", 0)) {
    return *code;
  }
  try {
    *id = make_unique_id();
    return ncclSuccess;
  } catch (const CommError& error) {
    return failed(ncclSystemError, error.what());
  }
}

ncclResult_t comm_init_rank_config(ncclComm_t* made, int size, ncclUniqueId id, int rank,
                                   ncclConfig_t* config) {
  if (const auto code = planted("CommInitRankConfig", rank)) {
    return *code;
  }
  if (size < 1 || size > static_cast<int>(most_ranks) || rank < 0 || rank >= size) {
    return failed(ncclInvalidArgument, "rank " + std::to_string(rank) + " of " +
                                           std::to_string(size) + " (at most " +
                                           std::to_string(most_ranks) + " on an emulated device)");
  }
  if (config == nullptr || config->blocking != 0) {
    return failed(ncclInvalidUsage, "an emulated communicator that blocks (none does)");
  }
  try {
    auto comm = std::make_unique<ncclComm>(SharedMemory::open(id.internal), rank, size);
    const ncclResult_t code = comm->meet([id] { forget(id); });
    *made = comm.release();
    return code;
  } catch (const CommError& error) {
    return failed(ncclSystemError, error.what());
  }
}

ncclResult_t comm_split(ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t*) {
  if (const auto code = planted("CommSplit", comm->rank())) {
    return *code;
  }
  if (color < 0 && color != NCCL_SPLIT_NOCOLOR) {
    return failed(ncclInvalidArgument, "color " + std::to_string(color) + " (at least 0)");
  }
  return comm->split(color, key, part);
}

ncclResult_t comm_user_rank(ncclComm_t comm, int* rank) {
  *rank = comm->rank();
  return planted("CommUserRank", comm->rank()).value_or(ncclSuccess);
}

ncclResult_t comm_get_async_error(ncclComm_t comm, ncclResult_t* state) {
  if (const auto code = planted("CommGetAsyncError()", comm->rank())) {
    return *code;
  }
  if (const auto code = planted("CommGetAsyncError", comm->rank())) {
    *code == ncclInProgress ? comm->stand_still() : comm->fail(*code);
  }
  *state = comm->state();
  return ncclSuccess;
}

ncclResult_t comm_finalize(ncclComm_t comm) {
  if (const auto code = planted("CommFinalize", comm->rank())) {
    return *code;
  }
  return comm->finalize();
}

ncclResult_t comm_destroy(ncclComm_t comm) {
  const std::unique_ptr<ncclComm> owner(comm);
  return planted("CommDestroy", comm->rank()).value_or(ncclSuccess);
}

ncclResult_t comm_abort(ncclComm_t comm) {
  const std::unique_ptr<ncclComm> owner(comm);
  comm->give_up();
  return planted("CommAbort", comm->rank()).value_or(ncclSuccess);
}

ncclResult_t all_reduce(const void* values, void* sum, std::size_t count, ncclDataType_t type,
                        ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclDouble || operation != ncclSum) {
    return failed(ncclInvalidArgument, "an emulated all-reduce that is no sum of doubles");
  }
  const std::span from(static_cast<const double*>(values), count);
  auto* const to = static_cast<double*>(sum);
  const auto code = planted("AllReduce", comm->rank());
  if (code == ncclInProgress) {
    return comm->all_reduce_later(from, to, stream);
  }
  return code ? *code : comm->all_reduce(from, to, stream);
}

}  // namespace
}  // namespace emulated

const Library& library() {
  static constexpr Library functions{.GetVersion = emulated::get_version,
                                     .GetErrorString = emulated::get_error_string,
                                     .GetLastError = emulated::get_last_error,
                                     .GetUniqueId = emulated::get_unique_id,
                                     .CommInitRankConfig = emulated::comm_init_rank_config,
                                     .CommSplit = emulated::comm_split,
                                     .CommUserRank = emulated::comm_user_rank,
                                     .CommGetAsyncError = emulated::comm_get_async_error,
                                     .CommFinalize = emulated::comm_finalize,
                                     .CommDestroy = emulated::comm_destroy,
                                     .CommAbort = emulated::comm_abort,
                                     .AllReduce = emulated::all_reduce};
  return functions;
}

std::string version() {
  return "emulated";
}

}  // namespace syncbn::comm::nccl
