// SPDX-License-Identifier: Apache-2.0
//
// Where a rank that SMPI simulates has to do without a system of its own. These definitions come
// before those of the libraries for the program that they are linked into (-Bsymbolic).

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <unistd.h>

#include <mpi.h>

#include <sys/syscall.h>

namespace {

/// Returns the time from one look of a waiting rank for messages to the next: that in the
/// environment, in ns, or 1 us.
timespec poll_time() {
  const char* const text = std::getenv("SYNCBN_POLL");
  return {0, text == nullptr ? 1000 : std::atol(text)};
}

}  // namespace

extern "C" {

// SimGrid 3.32 ends the program here: not implemented. MPI_Test never tells that no request is
// done, so there has to be one that is.
int MPI_Comm_idup(MPI_Comm comm, MPI_Comm* copy, MPI_Request* request) {
  MPI_Comm_dup(comm, copy);
  return MPI_Isend(nullptr, 0, MPI_BYTE, MPI_PROC_NULL, 0, comm, request);
}

// All ranks share one thread, and the next one runs when this one waits in simulated time. Looks
// for messages take none of it, and a rank that waits for another one's memory to change makes
// none, so it has to pass here.
int sched_yield() noexcept {
  static const timespec poll = poll_time();
  smpi_nanosleep(&poll, nullptr);
  return 0;
}

int usleep(useconds_t time) {
  return smpi_usleep(time);
}

// The library's only direct system call is the futex. Nobody sleeps on one, so nobody is woken.
long syscall(long number, ...) noexcept {
  if (number != SYS_futex) {
    errno = ENOSYS;
    return -1;
  }
  return sched_yield();
}
}
