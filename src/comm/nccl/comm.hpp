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

/// Owns a non-blocking communicator of NCCL's. One thread calls it; others may ask for errors and
/// abort it meanwhile. A call that takes longer than the deadlines is reported, and then aborted
/// with a CommError.
class Comm {
 public:
  /// Collective. Each rank takes part with the device that is current for it.
  Comm(const ncclUniqueId& id, int rank, int size, Deadlines deadlines);
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;
  /// Waits for what was put on streams, by the deadlines; during unwinding it aborts.
  ~Comm();

  /// Collective. Puts the sum of `values` over the ranks on the stream, in place.
  void all_reduce(double* values, std::size_t length, CUstream_st* stream);

  /// Collective. Returns a communicator of the ranks with the same color, at least 0, ordered by
  /// rank.
  std::unique_ptr<Comm> split(int color);

  /// Ends the work that was put on streams, whose values are lost; every later call fails. May be
  /// called from any thread. Returns when NCCL is done with that work.
  void abort() noexcept;

  /// Returns what went wrong in the background, "" if nothing did. May be called from any thread.
  std::string trouble();

 private:
  Comm(ncclComm_t comm, Deadlines deadlines);

  /// Returns the communicator, or throws CommError if it has been aborted. The caller holds the
  /// lock.
  ncclComm_t usable(const char* doing);
  /// Returns whether the call made last is done or in progress; throws CommError if it failed.
  ncclResult_t state(const char* doing);
  /// Waits until NCCL is done with the call made last (its work may still be on the stream). Aborts
  /// and throws CommError at the deadline or if the call failed.
  void settle(const char* doing);

  int rank_ = 0;
  Deadlines deadlines_;
  std::mutex mutex_;           ///< held in calls to NCCL, which return at once
  ncclComm_t comm_ = nullptr;  ///< null once aborted
  ncclComm_t part_ = nullptr;  ///< a split's result, which NCCL writes until it is aborted
};

}  // namespace syncbn::comm::nccl
