// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <mpi.h>

#include <fmt/format.h>

#include "syncbn/mpi.hpp"

#include "app/last_resort.hpp"
#include "app/launcher.hpp"
#include "app/mpi_survivors.hpp"
#include "app/session.hpp"

namespace syncbn::app {
namespace {

// For all_same alone, so that its messages meet no others. Of the ranks that are left.
MPI_Comm session_comm = MPI_COMM_NULL;
bool all_are_left = true;

std::string library_name() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> buffer{};
  int length = 0;
  MPI_Get_library_version(buffer.data(), &length);
  const std::string_view whole(buffer.data(), static_cast<std::size_t>(length));
  // "Open MPI v4.1.4, package: ...", "MPICH Version:      4.0.2\nMPICH Release date: ..."
  std::string name;
  for (const char c : whole.substr(0, whole.find_first_of(",\n"))) {
    const bool blank = c == ' ' || c == '\t' || c == ':';
    if (!blank) {
      name += c;
    } else if (!name.empty() && name.back() != ' ') {
      name += ' ';
    }
  }
  return name;
}

const char* level_name(int level) {
  switch (level) {
    case MPI_THREAD_SINGLE:
      return "single";
    case MPI_THREAD_FUNNELED:
      return "funneled";
    case MPI_THREAD_SERIALIZED:
      return "serialized";
    default:
      return "multiple";
  }
}

std::string library_and_level() {
  int major = 0;
  int minor = 0;
  int level = MPI_THREAD_SINGLE;
  MPI_Get_version(&major, &minor);
  MPI_Query_thread(&level);
  return fmt::format("{} (MPI {}.{}, thread level {})", library_name(), major, minor,
                     level_name(level));
}

MpiExchange exchange_of(const ExchangeOptions& options) {
  if (!options.summation || *options.summation == Summation::nccl) {
    return default_mpi_exchange();
  }
  return *options.summation == Summation::vendor ? MpiExchange::vendor : MpiExchange::service;
}

}  // namespace

Session::Session(int& argc, char**& argv) {
  int provided = MPI_THREAD_SINGLE;
  // One thread makes all calls while OpenMP's work beside it.
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_dup(MPI_COMM_WORLD, &session_comm);
  // A lost rank is an error to return, whichever of these MPI attributes it to.
  for (MPI_Comm comm : {session_comm, MPI_COMM_WORLD, MPI_COMM_SELF}) {
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  }
}

Session::~Session() {
  if (!all_are_left) {
    end_without_the_lost(session_comm);
    return;
  }
  MPI_Comm_free(&session_comm);
  MPI_Finalize();
}

int Session::rank() const {
  int rank = 0;
  MPI_Comm_rank(session_comm, &rank);
  return rank;
}

int Session::size() const {
  int size = 1;
  MPI_Comm_size(session_comm, &size);
  return size;
}

World Session::world(const ExchangeOptions& options) const {
  require_known_processes(size(), library_name());
  const MpiExchange exchange = exchange_of(options);
  World world{mpi_communicator(MPI_COMM_WORLD, options.deadlines, exchange),
              fmt::format("{} over {}", exchange == MpiExchange::vendor ? "vendor" : "service",
                          library_and_level()),
              nullptr, why_inelastic()};
  if (world.why_inelastic.empty()) {
    world.survivors = [this, options](const CommError& failure) {
      return survivors(options, failure);
    };
  }
  return world;
}

Survivors Session::survivors(const ExchangeOptions& options, const CommError& failure) const {
  // Open MPI 5.0.7 never comes back from MPIX_Comm_shrink if a rank dies in the middle of it.
  const std::chrono::milliseconds limit = 2 * options.deadlines.fail;  // the others may come late
  auto last_resort = std::make_shared<LastResort>(
      limit, fmt::format("syncbn: {}\n  The ranks that are left have not set out anew within {} s "
                         "(is one more lost?). Resume from the last checkpoint.",
                         failure.what(), std::chrono::duration<double>(limit).count()));
  std::vector<int> lost;
  for (;;) {
    const std::optional<Left> left = leave_the_lost(session_comm, options.deadlines.fail);
    if (!left) {
      throw failure;
    }
    MPI_Comm_free(&session_comm);
    session_comm = left->comm;
    all_are_left = false;
    lost.insert(lost.end(), left->lost.begin(), left->lost.end());
    try {
      return {mpi_communicator(session_comm, options.deadlines, exchange_of(options)), lost,
              std::move(last_resort)};
    } catch (const CommError&) {  // one more is lost, or there is nobody to leave behind
    }
  }
}

std::optional<bool> Session::all_same(std::uint64_t word,
                                      std::chrono::milliseconds patience) const {
  // Static: MPI may still write to it when we have given up.
  static std::array<std::uint64_t, 2> extremes;
  extremes = {word, ~word};
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Iallreduce(MPI_IN_PLACE, extremes.data(), 2, MPI_UINT64_T, MPI_MAX, session_comm, &request);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    int done = 0;
    if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
      return std::nullopt;  // a rank is lost
    }
    if (done != 0) {
      return extremes[0] == ~extremes[1];  // the largest is the smallest
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return std::nullopt;
    }
    std::this_thread::yield();
  }
}

void Session::abort(int code) const {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace syncbn::app
