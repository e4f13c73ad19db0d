// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <unistd.h>
#include <utility>

#include <mpi.h>

#include "syncbn/communicator.hpp"

namespace syncbn::comm::mpi {

/// Throws CommError unless the code is MPI_SUCCESS.
void check(int code, const char* doing);

/// A communicator of ours, freed with its owner if it is usable then.
class OwnedComm {
 public:
  /// Sets it to return errors.
  explicit OwnedComm(MPI_Comm comm);
  OwnedComm(OwnedComm&& other) noexcept
      : comm_(std::exchange(other.comm_, MPI_COMM_NULL)),
        process_(other.process_),
        abandoned_(other.abandoned_) {}
  OwnedComm& operator=(OwnedComm&&) = delete;
  ~OwnedComm();

  MPI_Comm get() const { return comm_; }
  int rank() const;
  int size() const;
  /// Whether MPI can be called: it is not finalized, and this is not a process that was forked from
  /// the rank's.
  bool usable() const;
  /// Leaves the communicator to MPI in the end: a collective on it never finished.
  void abandon() { abandoned_ = true; }

 private:
  MPI_Comm comm_;
  pid_t process_ = getpid();
  bool abandoned_ = false;
};

/// Whether the request is done now.
bool tested(MPI_Request& request);

/// Whether the request is done by the deadline. If not, MPI keeps it, and the memory it works on;
/// so too if `look_around` throws, which is called now and then meanwhile.
bool finished(MPI_Request& request, std::chrono::milliseconds timeout,
              const std::function<void()>& look_around = {});

/// Begins to duplicate a communicator, and has `wait` wait for the request. If that throws, MPI
/// keeps what it works on.
OwnedComm duplicate(MPI_Comm comm, const std::function<void(MPI_Request&)>& wait);

/// Collective. A duplicate of the caller's communicator, on which we cannot ask who is missing.
/// Throws CommError at the deadline.
OwnedComm duplicate(MPI_Comm comm, Deadlines deadlines);

}  // namespace syncbn::comm::mpi
