// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/handles.hpp"

#include <array>
#include <iterator>
#include <memory>
#include <sched.h>
#include <set>
#include <string>

#include "syncbn/error.hpp"

#include "comm/deadlines.hpp"

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
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (comm_ != MPI_COMM_NULL && finalized == 0) {
    MPI_Comm_free(&comm_);
  }
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

bool finished(MPI_Request& request, std::chrono::milliseconds timeout,
              const std::function<void()>& look_around) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  constexpr int polls_between_yields = 256;
  for (int polls = 1;; ++polls) {
    int done = 0;
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "a collective");
    if (done != 0) {
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

void throw_too_late(std::chrono::milliseconds timeout) {
  throw CommError("not all ranks came within " + in_seconds(timeout) +
                  " (one is stuck, has ended, or is in another exchange; see what the others "
                  "report)");
}

namespace {

// What MPI makes of `value` in a request that `start` begins. Where it does not come about in time,
// or `look_around` throws, the memory is left to MPI, which may still write there.
template <class T, class Start>
T awaited(T value, Start start, std::chrono::milliseconds timeout,
          const std::function<void()>& look_around = {}) {
  auto owned = std::make_unique<T>(value);
  MPI_Request request = MPI_REQUEST_NULL;
  start(*owned, request);
  T* const place = owned.release();
  if (!finished(request, timeout, look_around)) {
    throw_too_late(timeout);
  }
  owned.reset(place);
  return *owned;
}

}  // namespace

OwnedComm duplicate(MPI_Comm comm, std::chrono::milliseconds timeout,
                    const std::function<void()>& look_around) {
  return OwnedComm(awaited(
      MPI_Comm(MPI_COMM_NULL),
      [&](MPI_Comm& copy, MPI_Request& request) {
        check(MPI_Comm_idup(comm, &copy, &request), "MPI_Comm_idup");
      },
      timeout, look_around));
}

bool same_everywhere(const OwnedComm& comm, int number, std::chrono::milliseconds timeout) {
  const auto extremes = awaited(
      std::array{number, -number},
      [&](std::array<int, 2>& both, MPI_Request& request) {
        check(MPI_Iallreduce(MPI_IN_PLACE, both.data(), 2, MPI_INT, MPI_MAX, comm.get(), &request),
              "MPI_Iallreduce");
      },
      timeout);
  return extremes[0] == -extremes[1];  // the largest is the smallest
}

std::uint64_t of_first_rank(const OwnedComm& comm, std::uint64_t number,
                            std::chrono::milliseconds timeout) {
  return awaited(
      number,
      [&](std::uint64_t& first, MPI_Request& request) {
        check(MPI_Ibcast(&first, 1, MPI_UINT64_T, 0, comm.get(), &request), "MPI_Ibcast");
      },
      timeout);
}

OwnedComm part(const OwnedComm& comm, int color) {
  MPI_Comm made = MPI_COMM_NULL;
  check(MPI_Comm_split(comm.get(), color, comm.rank(), &made), "MPI_Comm_split");
  return OwnedComm(made);
}

OwnedComm part_of_color(const OwnedComm& comm, std::span<const int> colors) {
  // MPI takes no negative colors, and one that means none: give it the color's place among all.
  const std::set<int> distinct(colors.begin(), colors.end());
  const int own = colors[static_cast<std::size_t>(comm.rank())];
  return part(comm, static_cast<int>(std::distance(distinct.begin(), distinct.find(own))));
}

}  // namespace syncbn::comm::mpi
