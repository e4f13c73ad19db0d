// SPDX-License-Identifier: Apache-2.0
//
// mpirun -n W syncbn_exchange_bench [ROUNDS]: the exchange of a forward of C channels by the
// built-in exchange and by MPI's sum, beside MPI_Allreduce of as many doubles, which checks nothing
// and never gives up. Taken in turns in one run; medians over the rounds, of the slowest rank. [us]

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <mpi.h>

#include "syncbn/mpi.hpp"

#include "bn/operations.hpp"
#include "comm/group/access.hpp"
#include "comm/group/group.hpp"

namespace {

using syncbn::Communicator;
using syncbn::MpiExchange;
using syncbn::comm::Access;

constexpr int calls_in_a_round = 100;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

/// Of one call, in a round of them that all ranks begin together. [us]
double time_of(MPI_Comm comm, const std::function<void()>& call) {
  using Clock = std::chrono::steady_clock;
  MPI_Barrier(comm);
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < calls_in_a_round; ++i) {
    call();
  }
  double time = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
  MPI_Allreduce(MPI_IN_PLACE, &time, 1, MPI_DOUBLE, MPI_MAX, comm);
  return time / calls_in_a_round;
}

void run(int rounds) {
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  const syncbn::Deadlines deadlines = syncbn::default_deadlines();
  const std::array groups{syncbn::mpi_communicator(MPI_COMM_WORLD, deadlines, MpiExchange::builtin),
                          syncbn::mpi_communicator(MPI_COMM_WORLD, deadlines, MpiExchange::mpi)};
  const bool speaks = groups[0].rank() == 0;
  if (speaks) {
    std::printf("%d ranks, %d rounds of %d; medians [us]; ratio: MPI_Allreduce / builtin\n",
                groups[0].size(), rounds, calls_in_a_round);
    std::printf("%6s %8s %10s %14s %8s %10s\n", "C", "doubles", "builtin", "MPI_Allreduce", "ratio",
                "mpi");
  }
  for (const std::int64_t channels : {16, 64, 128, 256, 512, 1024, 2048, 4096}) {
    std::vector<double> data(static_cast<std::size_t>(2 * channels + 2), 0.0);
    const auto exchange = [&](const Communicator& group) {
      Access::group(group).exchange(
          {.operation = &syncbn::bn::forward_operation(syncbn::bn::Given::x),
           .subject = "layer1.0.bn1",
           .count = channels,
           .dtype = syncbn::DType::f32},
          data);
    };
    const std::array<std::function<void()>, 3> calls{
        [&] { exchange(groups[0]); }, [&] { exchange(groups[1]); },
        [&] {
          MPI_Allreduce(MPI_IN_PLACE, data.data(), static_cast<int>(data.size()), MPI_DOUBLE,
                        MPI_SUM, comm);
        }};
    std::array<std::vector<double>, 3> times;
    for (int round = -1; round < rounds; ++round) {  // the first does not count
      for (std::size_t i = 0; i < calls.size(); ++i) {
        const double time = time_of(comm, calls[i]);
        if (round >= 0) {
          times[i].push_back(time);
        }
      }
    }
    if (speaks) {
      const double builtin = median(times[0]);
      const double all_reduce = median(times[2]);
      std::printf("%6lld %8zu %10.2f %14.2f %8.2f %10.2f\n", static_cast<long long>(channels),
                  data.size(), builtin, all_reduce, all_reduce / builtin, median(times[1]));
      std::fflush(stdout);
    }
  }
  MPI_Comm_free(&comm);
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const int rounds = argc == 2 ? std::atoi(argv[1]) : argc == 1 ? 31 : 0;
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rounds < 1) {
    if (rank == 0) {
      std::fputs("usage: mpirun -n W syncbn_exchange_bench [ROUNDS, 31 unless given]\n", stderr);
    }
    MPI_Finalize();
    return 2;
  }
  run(rounds);
  MPI_Finalize();
}
