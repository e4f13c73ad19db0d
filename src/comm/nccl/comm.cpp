// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/comm.hpp"

#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "syncbn/error.hpp"

#include "comm/group/deadline_clock.hpp"
#include "comm/group/deadlines.hpp"
#include "comm/nccl/check.hpp"
#include "comm/nccl/library.hpp"

namespace syncbn::comm::nccl {

Comm::Comm(const ncclUniqueId& id, int rank, int size, Deadlines deadlines)
    : rank_(rank), deadlines_(deadlines) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  check(library().CommInitRankConfig(&comm_, size, id, rank, &config), "making a communicator");
  settle("making a communicator");
}

Comm::Comm(ncclComm_t comm, Deadlines deadlines) : deadlines_(deadlines), comm_(comm) {
  settle("splitting a communicator");
  try {
    check(library().CommUserRank(comm_, &rank_), "asking for a rank");
  } catch (...) {
    abort();
    throw;
  }
}

Comm::~Comm() {
  if (std::uncaught_exceptions() == 0 && comm_ != nullptr) {
    try {
      check(library().CommFinalize(comm_), "finishing a communicator");
      settle("finishing a communicator");
      check(library().CommDestroy(std::exchange(comm_, nullptr)), "destroying a communicator");
    } catch (const CommError& error) {
      report(error.what());
    }
  }
  abort();
}

void Comm::all_reduce(double* values, std::size_t count, CUstream_st* stream) {
  const char* doing = "putting a sum on a stream";
  {
    const std::scoped_lock lock(mutex_);
    check(library().AllReduce(values, values, count, ncclDouble, ncclSum, usable(doing), stream),
          doing);
  }
  settle(doing);
}

std::unique_ptr<PlainDeviceSum> Comm::split(int color) {
  const char* doing = "splitting a communicator";
  {
    const std::scoped_lock lock(mutex_);
    check(library().CommSplit(usable(doing), color, rank_, &part_, nullptr), doing);
  }
  settle(doing);
  return std::unique_ptr<PlainDeviceSum>(new Comm(std::exchange(part_, nullptr), deadlines_));
}

void Comm::abort() noexcept {
  ncclComm_t comm = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    comm = std::exchange(comm_, nullptr);
  }
  if (comm != nullptr) {
    try {
      check(library().CommAbort(comm), "aborting a communicator");
    } catch (const CommError& error) {
      report(error.what());
    }
  }
}

std::string Comm::trouble() {
  const std::scoped_lock lock(mutex_);
  ncclResult_t now = ncclSuccess;
  if (comm_ != nullptr) {
    const ncclResult_t asked = library().CommGetAsyncError(comm_, &now);
    now = asked != ncclSuccess ? asked : now;
  }
  return now == ncclSuccess || now == ncclInProgress ? "" : "NCCL failed: " + explain(now);
}

ncclComm_t Comm::usable(const char* doing) {
  if (comm_ == nullptr) {
    throw CommError(std::string("NCCL failed ") + doing + " (the communicator has been aborted)");
  }
  return comm_;
}

ncclResult_t Comm::state(const char* doing) {
  const std::scoped_lock lock(mutex_);
  ncclResult_t now = ncclSuccess;
  check(library().CommGetAsyncError(usable(doing), &now), doing);
  check(now, doing);
  return now;
}

void Comm::settle(const char* doing) {
  constexpr int yielding_turns = 1000;
  constexpr std::chrono::microseconds nap(100);

  DeadlineClock clock(deadlines_);
  try {
    for (int turn = 0; state(doing) == ncclInProgress; ++turn) {
      const std::string what = std::string("NCCL was not done ") + doing + " within ";
      clock.look(
          [&](auto waited) {
            report("rank " + std::to_string(rank_) + ": " + what + in_seconds(waited));
          },
          [&](auto waited) { throw CommError(what + in_seconds(waited)); });
      if (turn < yielding_turns) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(nap);
      }
    }
  } catch (...) {
    abort();
    throw;
  }
}

}  // namespace syncbn::comm::nccl
