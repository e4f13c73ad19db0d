// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/handles.hpp"

#include <memory>
#include <sched.h>
#include <string>

#include "syncbn/error.hpp"

#include "comm/group/deadline_clock.hpp"
#include "comm/group/deadlines.hpp"

namespace syncbn::comm::mpi {

void check(int code, const char* doing) {
  if (code == MPI_SUCCESS) {
    return;
  }
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw CommError(std::string(doing) + " failed (" + std::string(text, std::size_t(length)) + ")");
}

OwnedComm::OwnedComm(MPI_Comm comm) : comm_(comm) {
  if (comm != MPI_COMM_NULL) {
    check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
}

OwnedComm::~OwnedComm() {
  if (comm_ != MPI_COMM_NULL && !abandoned_ && usable()) {
    MPI_Comm_free(&comm_);
  }
}

bool OwnedComm::usable() const {
  if (getpid() != process_) {
    return false;
  }
  int finalized = 0;
  MPI_Finalized(&finalized);
  return finalized == 0;
}

int OwnedComm::rank() const {
  int rank = 0;
  check(MPI_Comm_rank(comm_, &rank), "MPI_Comm_rank");
  return rank;
}

int OwnedComm::size() const {
  int size = 0;
  check(MPI_Comm_size(comm_, &size), "MPI_Comm_size");
  return size;
}

bool tested(MPI_Request& request) {
  int done = 0;
  check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "a collective");
  return done != 0;
}

bool finished(MPI_Request& request, std::chrono::milliseconds timeout,
              const std::function<void()>& look_around) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  constexpr int polls_between_yields = 256;
  for (int polls = 1;; ++polls) {
    if (tested(request)) {
      return true;
    }
    if (polls % polls_between_yields == 0) {
      if (std::chrono::steady_clock::now() > deadline) {
        return false;
      }
      if (look_around) {
        look_around();
      }
      sched_yield();
    }
  }
}

OwnedComm duplicate(MPI_Comm comm, const std::function<void(MPI_Request&)>& wait) {
  auto owned = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Comm_idup(comm, owned.get(), &request), "MPI_Comm_idup");
  MPI_Comm* const copy = owned.release();  // MPI writes here until the request is done
  wait(request);
  owned.reset(copy);
  return OwnedComm(*owned);
}

OwnedComm duplicate(MPI_Comm comm, Deadlines deadlines) {
  return duplicate(comm, [&](MPI_Request& request) {
    const auto late = [](std::chrono::milliseconds waited) {
      return "making a communicator: not all ranks came within " + in_seconds(waited);
    };
    DeadlineClock clock(deadlines);
    while (!finished(request, std::chrono::milliseconds(10))) {
      clock.look(
          [&](auto waited) { report(late(waited)); },
          [&](auto waited) {
            throw CommError(late(waited) +
                            " (one is stuck, has ended, or is elsewhere; MPI does not tell which)");
          });
    }
  });
}

}  // namespace syncbn::comm::mpi
