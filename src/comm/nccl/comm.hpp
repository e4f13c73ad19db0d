// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>

#include <nccl.h>

#include "syncbn/communicator.hpp"

#include "comm/device/plain_device_sum.hpp"

namespace syncbn::comm::nccl {

/// Owns a non-blocking communicator of NCCL's. A call that takes longer than the deadlines is
/// reported, and then aborted with a CommError.
class Comm final : public PlainDeviceSum {
 public:
  /// Collective. Each rank takes part with the device that is current for it.
  Comm(const ncclUniqueId& id, int rank, int size, Deadlines deadlines);
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;
  /// Waits for what was put on streams, by the deadlines; during unwinding it aborts.
  ~Comm() override;

  void all_reduce(double* values, std::size_t count, CUstream_st* stream) override;
  std::string trouble() override;
  /// Every later call fails.
  void abort() noexcept override;
  std::unique_ptr<PlainDeviceSum> split(int color) override;

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
