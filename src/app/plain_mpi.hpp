// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace syncbn::app {

/// PlainMpi makes MPI's own calls over some ranks, as any other program would: what the library's
/// exchange is compared with. These calls have no deadline.
class PlainMpi {
 public:
  PlainMpi() = default;
  virtual ~PlainMpi() = default;
  PlainMpi(const PlainMpi&) = delete;
  PlainMpi& operator=(const PlainMpi&) = delete;

  /// Collective. Sums `data` over the ranks in place, by MPI_Allreduce. Throws CommError.
  virtual void all_reduce(std::span<double> data) = 0;

  /// Sends `message` to rank `peer` and gets it back; on that rank, which calls `return_ping` at
  /// the same time, the other way around. Throws CommError.
  virtual void ping(int peer, std::span<std::byte> message) = 0;
  virtual void return_ping(int peer, std::span<std::byte> message) = 0;
};

}  // namespace syncbn::app
