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

/// Owns a communicator and frees it, unless it was abandoned or MPI can no longer be called.
class OwnedComm {
 public:
  /// Sets the communicator's error handler to MPI_ERRORS_RETURN, without which `check` never sees
  /// one.
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
  /// Tells whether MPI can be called: it is not finalized, and this is not a process that was
  /// forked from the rank's.
  bool usable() const;
  /// Never frees the communicator, because a collective on it did not finish.
  void abandon() { abandoned_ = true; }

 private:
  MPI_Comm comm_;
  pid_t process_ = getpid();
  bool abandoned_ = false;
};

/// Tests the request once, and returns whether it is done.
bool tested(MPI_Request& request);

/// Polls the request for at most `timeout`, and returns whether it is done. Calls `look_around` now
/// and then meanwhile. If the request is not done, or `look_around` throws, MPI keeps the request
/// and the memory that it works on.
bool finished(MPI_Request& request, std::chrono::milliseconds timeout,
              const std::function<void()>& look_around = {});

/// Collective. Begins to duplicate a communicator, and calls `wait` to wait for the request. If
/// that throws, MPI keeps the memory that the request works on.
OwnedComm duplicate(MPI_Comm comm, const std::function<void(MPI_Request&)>& wait);

/// Collective. Returns a duplicate of the caller's communicator. Throws CommError at the deadline;
/// it cannot name the missing ranks, as we send no messages of our own on the caller's
/// communicator.
OwnedComm duplicate(MPI_Comm comm, Deadlines deadlines);

}  // namespace syncbn::comm::mpi
