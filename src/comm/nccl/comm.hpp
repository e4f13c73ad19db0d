// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>

#include <nccl.h>

#include "syncbn/communicator.hpp"

struct CUstream_st;

namespace syncbn::comm::nccl {

/// A non-blocking communicator of NCCL's. One thread calls it; others may ask for errors and abort
/// it meanwhile. What takes longer than the deadlines is reported, and then aborted with a
/// CommError.
class Comm {
 public:
  /// Collective, each rank with its own current device.
  Comm(const ncclUniqueId& id, int rank, int size, Deadlines deadlines);
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;
  /// Waits for what was put on streams, by the deadlines; during unwinding it aborts.
  ~Comm();

  /// Collective. Puts the sum of `values` over the ranks on the stream, in place.
  void all_reduce(double* values, std::size_t length, CUstream_st* stream);

  /// Collective. That of the ranks with the same color, at least 0, ordered by rank.
  std::unique_ptr<Comm> split(int color);

  /// From any thread. Ends what was put on streams, whose values are lost, and every later call.
  /// Returns when NCCL is done with them.
  void abort() noexcept;

  /// From any thread: what went wrong in the background, "" if nothing.
  std::string trouble();

 private:
  Comm(ncclComm_t comm, Deadlines deadlines);

  /// With the lock held. Throws CommError if it has been aborted.
  ncclComm_t usable(const char* doing);
  /// What NCCL says of the call made last.
  ncclResult_t state(const char* doing);
  /// Waits until NCCL is through with that (not the stream with its work), or aborts.
  void settle(const char* doing);

  int rank_ = 0;
  Deadlines deadlines_;
  std::mutex mutex_;           ///< held in calls to NCCL, which return at once
  ncclComm_t comm_ = nullptr;  ///< null once aborted
  ncclComm_t part_ =
      nullptr;  ///< of a split: NCCL writes it in the background, until it is aborted
};

}  // namespace syncbn::comm::nccl
