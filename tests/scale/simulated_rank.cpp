// SPDX-License-Identifier: Apache-2.0
//
// Where a rank that SMPI simulates has to do without a system of its own. These definitions come
// before those of the libraries for the program that they are linked into (-Bsymbolic).

#include <cerrno>
#include <ctime>
#include <unistd.h>

#include <mpi.h>

#include <sys/syscall.h>

extern "C" {

// SimGrid 3.32 ends the program here: not implemented. A request there has to be: MPI_Test never
// tells that none is done.
int MPI_Comm_idup(MPI_Comm comm, MPI_Comm* copy, MPI_Request* request) {
  MPI_Comm_dup(comm, copy);
  return MPI_Ibarrier(comm, request);
}

// All ranks share one thread, and the next one runs when this one waits in simulated time. A rank
// that waits for another one's memory to change makes no MPI calls, so it has to be done here.
int sched_yield() noexcept {
  smpi_usleep(1);
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
