// SPDX-License-Identifier: Apache-2.0
//
// mpirun -n 2 comm_mpi_errors_test MODE: MPI's own failures, each in a job of its own, because a
// communicator is not usable afterwards.

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <mpi.h>

#include <sys/syscall.h>
#include <sys/wait.h>

#include "syncbn/error.hpp"
#include "syncbn/mpi.hpp"

#include "comm/group/access.hpp"
#include "comm/group/group.hpp"
#include "comm/mpi/transports.hpp"
#include "support/failure.hpp"

namespace {

using syncbn::Communicator;
using syncbn::comm::Access;

void expect(bool condition, const std::string& what) {
  if (!condition) {
    std::fprintf(stderr, "failed: %s\n", what.c_str());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
}

// A request was abandoned: MPI_Finalize could wait for it for ever. mpirun calls that a failure, so
// the test goes by what is printed. The first rank to end takes the others with it.
void end_without_finalize(std::chrono::seconds after = std::chrono::seconds(1)) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  std::printf("rank %d passed\n", rank);
  std::fflush(stdout);
  std::this_thread::sleep_for(after);  // let the other rank print
  std::_Exit(0);
}

std::string all_reduce_failure(const Communicator& group, std::size_t length) {
  std::vector<double> data(length, 1.0);
  return syncbn::test::failure_of<syncbn::CommError>([&] { group.all_reduce(data); });
}

// Our duplicate outlives the caller's communicator, and the caller's keeps its error handler.
void freed() {
  MPI_Comm own = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &own);
  const Communicator group = syncbn::mpi_communicator(own);
  MPI_Errhandler handler = MPI_ERRHANDLER_NULL;
  MPI_Comm_get_errhandler(own, &handler);
  expect(handler == MPI_ERRORS_ARE_FATAL, "the caller's error handler is untouched");
  MPI_Errhandler_free(&handler);
  MPI_Comm_free(&own);
  expect(all_reduce_failure(group, 5).empty(), "usable after the caller freed its communicator");
}

// Rank 1 never comes: rank 0 is told at the deadline, and the communicator stays unusable.
void absent(bool from_the_start) {
  const Communicator group = syncbn::mpi_communicator(MPI_COMM_WORLD, std::chrono::seconds(4));
  expect(from_the_start || all_reduce_failure(group, 5).empty(), "both ranks come");
  if (group.rank() == 0) {
    const auto start = std::chrono::steady_clock::now();
    const std::string message = all_reduce_failure(group, 5);
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - start;
    expect(message.find("within 4 s") != std::string::npos, "the deadline is named: " + message);
    expect(waited.count() < 60, "the deadline is kept");
    expect(all_reduce_failure(group, 5).find("unusable") != std::string::npos, "unusable after");
  } else {
    end_without_finalize(std::chrono::seconds(60));  // is absent until the others end
  }
  end_without_finalize();
}

// Known lengths that differ: no wrong sum, no broken heap, but the deadline.
void lengths() {
  const Communicator group = syncbn::mpi_communicator(MPI_COMM_WORLD, std::chrono::seconds(4));
  expect(all_reduce_failure(group, 5).empty() && all_reduce_failure(group, 5000).empty(),
         "both lengths work");
  const std::string message = all_reduce_failure(group, group.rank() == 0 ? 5 : 5000);
  expect(message.find(group.rank() == 0 ? "of 5 values" : "of 5000 values") != std::string::npos,
         "each rank says what it was in: " + message);
  end_without_finalize();
}

// Ranks that choose different exchanges are told so, all of them.
void mixed() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  try {
    syncbn::mpi_communicator(MPI_COMM_WORLD, syncbn::default_deadlines(),
                             rank == 0 ? syncbn::MpiExchange::builtin : syncbn::MpiExchange::mpi);
    expect(false, "mixed exchanges are refused");
  } catch (const syncbn::InvalidArgument& error) {
    expect(std::string(error.what()).find("SYNCBN_EXCHANGE") != std::string::npos, error.what());
  }
}

// Children of a rank, as loaders of data fork them, do with its communicator what they like, and
// end in all ways. The ranks go on.
void forked() {
  static std::optional<Communicator> group =
      syncbn::mpi_communicator(MPI_COMM_WORLD, std::chrono::seconds(60));
  expect(all_reduce_failure(*group, 5).empty(), "all ranks come");
  for (const std::string end : {"frees its handle", "gives up", "exits"}) {
    if (group->rank() == 1) {
      const pid_t child = fork();
      if (child == 0) {
        if (end == "gives up") {
          Access::group(*group).abandon("a child of its own mind");
        } else if (end == "frees its handle") {
          group.reset();
        }
        if (end == "exits") {
          std::exit(0);
        }
        _exit(0);
      }
      int status = 1;
      waitpid(child, &status, 0);
      expect(status == 0, "a child that " + end);
    }
    const std::string failure = all_reduce_failure(*group, 30'000);
    expect(failure.empty(), "the ranks go on when a child " + end + ": " + failure);
  }
  group.reset();
}

// Returns a group of all ranks, as if hosts had no more ranks than `ranks`.
Communicator hosts_of(int ranks, const syncbn::Deadlines& deadlines) {
  return Access::communicator(
      std::make_shared<syncbn::comm::Group>(syncbn::comm::mpi::builtin_transport(
          syncbn::comm::mpi::Members(syncbn::comm::mpi::duplicate(MPI_COMM_WORLD, deadlines)),
          deadlines, ranks)));
}

// Of two hosts with two ranks each the second does not come. A rank that waits for the first of its
// own, whose deadline is later, knows who is missing all the same.
void absent_host() {
  const syncbn::Deadlines deadlines(std::chrono::seconds(4), std::chrono::seconds(2));
  const Communicator group = hosts_of(2, deadlines);
  expect(all_reduce_failure(group, 5).empty(), "all ranks come");
  if (group.rank() < 2) {
    std::this_thread::sleep_for(std::chrono::milliseconds(group.rank() == 0 ? 1000 : 0));
    const std::string message = all_reduce_failure(group, 5);
    expect(message.find("ranks 2-3 on ") != std::string::npos, "who is missing: " + message);
    expect(message.find("did not come within 4 s") != std::string::npos, "for long: " + message);
  } else {
    end_without_finalize(std::chrono::seconds(60));  // is absent until the others end
  }
  end_without_finalize();
}

bool memory_is_full = false;

// Of the second of two hosts the memory is full: all ranks are told, and where.
void no_memory() {
  const syncbn::Deadlines deadlines = std::chrono::seconds(60);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  memory_is_full = rank == 2;
  try {
    syncbn::comm::mpi::builtin_transport(
        syncbn::comm::mpi::Members(syncbn::comm::mpi::duplicate(MPI_COMM_WORLD, deadlines)),
        deadlines, 2);
    expect(false, "no memory is an error");
  } catch (const syncbn::CommError& error) {
    const std::string message = error.what();
    expect(message.find("rank 2: creating ") != std::string::npos &&
               message.find("Cannot allocate memory") != std::string::npos,
           "the reason is told: " + message);
  }
}

// A notice to hosts that have done with the group must not reach the next one that they make.
void left_early() {
  const syncbn::Deadlines deadlines = std::chrono::seconds(60);
  for (int round = 0; round < 5; ++round) {
    auto group = std::make_unique<Communicator>(hosts_of(1, deadlines));
    const int rank = group->rank();
    expect(all_reduce_failure(*group, 5).empty(), "all ranks come");
    if (rank == 0) {
      Access::group(*group).abandon("a rank of its own mind");
    }
    group.reset();
    MPI_Comm rest = MPI_COMM_NULL;
    MPI_Comm_split(MPI_COMM_WORLD, rank == 0 ? MPI_UNDEFINED : 0, rank, &rest);
    if (rank != 0) {
      const Communicator next = syncbn::mpi_communicator(rest, deadlines);
      expect(all_reduce_failure(next, 5).empty(), "the others go on");
      MPI_Comm_free(&rest);
    }
  }
}

}  // namespace

// In the C library's place.
extern "C" int memfd_create(const char* name, unsigned int flags) noexcept {
  if (memory_is_full) {
    errno = ENOMEM;
    return -1;
  }
  return static_cast<int>(syscall(SYS_memfd_create, name, flags));
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const std::string mode = argc == 2 ? argv[1] : "";
  if (mode == "freed") {
    freed();
  } else if (mode == "absent") {
    absent(false);
  } else if (mode == "absent_from_the_start") {
    absent(true);
  } else if (mode == "lengths") {
    lengths();
  } else if (mode == "mixed") {
    mixed();
  } else if (mode == "left_early") {
    left_early();
  } else if (mode == "forked") {
    forked();
  } else if (mode == "absent_host") {
    absent_host();
  } else if (mode == "no_memory") {
    no_memory();
  } else {
    expect(false,
           "a mode: freed, forked, absent, absent_from_the_start, absent_host, lengths, mixed, "
           "no_memory or "
           "left_early");
  }
  MPI_Finalize();
}
