// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include <mpi.h>

namespace syncbn::comm::mpi {

/// Throws CommError unless the code is MPI_SUCCESS.
void check(int code, const char* doing);

/// A communicator of ours, freed with its owner unless MPI is finalized by then.
class OwnedComm {
 public:
  /// Sets it to return errors.
  explicit OwnedComm(MPI_Comm comm);
  OwnedComm(OwnedComm&& other) noexcept : comm_(std::exchange(other.comm_, MPI_COMM_NULL)) {}
  OwnedComm& operator=(OwnedComm&&) = delete;
  ~OwnedComm();

  MPI_Comm get() const { return comm_; }
  int rank() const;
  int size() const;
  /// Leaves the communicator to MPI: a collective on it never finished.
  void abandon() { comm_ = MPI_COMM_NULL; }

 private:
  MPI_Comm comm_;
};

/// Whether the request is done by the deadline. If not, MPI keeps it, and the memory it works on;
/// so too if `look_around` throws, which is called now and then meanwhile.
bool finished(MPI_Request& request, std::chrono::milliseconds timeout,
              const std::function<void()>& look_around = {});

[[noreturn]] void throw_too_late(std::chrono::milliseconds timeout);

/// Collective. Throws CommError after `timeout`, and what `look_around` throws while it waits.
OwnedComm duplicate(MPI_Comm comm, std::chrono::milliseconds timeout,
                    const std::function<void()>& look_around = {});

/// Collective. Whether all ranks give the same number. Throws CommError after `timeout`.
bool same_everywhere(const OwnedComm& comm, int number, std::chrono::milliseconds timeout);

/// Collective. The number that rank 0 gives. Throws CommError after `timeout`.
std::uint64_t of_first_rank(const OwnedComm& comm, std::uint64_t number,
                            std::chrono::milliseconds timeout);

/// Collective. The part of the ranks with the same color, in the order of their ranks; blocking, so
/// for ranks that are known to come. MPI_UNDEFINED: in no part, MPI_COMM_NULL.
OwnedComm part(const OwnedComm& comm, int color);

/// Collective. Likewise, of any colors, of which `colors` has every rank's.
OwnedComm part_of_color(const OwnedComm& comm, std::span<const int> colors);

}  // namespace syncbn::comm::mpi
