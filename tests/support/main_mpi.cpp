// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>

#include <mpi.h>

#include <gtest/gtest.h>

#include "syncbn/mpi.hpp"

#include "comm/group/access.hpp"
#include "comm/group/group.hpp"
#include "comm/mpi/transports.hpp"
#include "support/delayed_streams.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::test {

namespace {

/// With SYNCBN_TEST_RANKS_PER_HOST in the environment, as if hosts had no more ranks than that.
Communicator world_communicator(std::chrono::milliseconds timeout) {
  if (const char* ranks = std::getenv("SYNCBN_TEST_RANKS_PER_HOST")) {
    return comm::Access::communicator(std::make_shared<comm::Group>(comm::mpi::builtin_transport(
        comm::mpi::Members(comm::mpi::duplicate(MPI_COMM_WORLD, timeout)), timeout,
        std::atoi(ranks))));
  }
  return mpi_communicator(MPI_COMM_WORLD, timeout);
}

}  // namespace

void on_ranks(const std::function<void(Communicator)>& body, std::chrono::milliseconds timeout) {
  const Communicator world = world_communicator(timeout);
  try {
    body(world);
  } catch (const std::exception& error) {
    ADD_FAILURE() << "rank " << world.rank() << " threw: " << error.what();
  }
}

namespace {

/// Rank 0 prints as usual, the others only what failed.
class FailuresOnly : public testing::EmptyTestEventListener {
 public:
  explicit FailuresOnly(int rank) : rank_(rank) {}
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed()) {
      std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name(), result.line_number(),
                   result.message());
    }
  }

 private:
  int rank_;
};

}  // namespace
}  // namespace syncbn::test

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  testing::InitGoogleTest(&argc, argv);
  syncbn::test::delay_streams();
  if (rank != 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new syncbn::test::FailuresOnly(rank));
  }
  int failed = RUN_ALL_TESTS();
  // All ranks end with the same exit code.
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return failed;
}
