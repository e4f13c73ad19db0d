// SPDX-License-Identifier: Apache-2.0
//
// This file uses User-Level Failure Mitigation (Bland et al., 2013) as Open MPI 5 has it: when a
// rank is lost, the others agree that it is, and shrink the communicator to themselves.
#include <numeric>
#include <thread>

#include <mpi.h>

#include <mpi-ext.h>  // needs mpi.h before it

#include "app/mpi_survivors.hpp"

namespace syncbn::app {
namespace {

/// Collective over the ranks of `comm` that live. Returns the error class that MPI agrees on for
/// all of them, which tells whether a rank is lost; none if not all come within `patience`.
std::optional<int> agreed_error(MPI_Comm comm, std::chrono::milliseconds patience) {
  static int flag;  // MPI may still write to it when we have given up
  flag = 1;
  MPI_Request request = MPI_REQUEST_NULL;
  int code = MPIX_Comm_iagree(comm, &flag, &request);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (int done = 0; code == MPI_SUCCESS;) {
    code = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (done != 0) {
      break;
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return std::nullopt;
    }
    std::this_thread::yield();
  }
  int error = MPI_SUCCESS;
  MPI_Error_class(code, &error);
  return error;
}

/// Returns the numbers in MPI_COMM_WORLD of those ranks of `comm` that are not in `left`.
std::vector<int> missing_ranks(MPI_Comm comm, MPI_Comm left) {
  MPI_Group all = MPI_GROUP_NULL;
  MPI_Group some = MPI_GROUP_NULL;
  MPI_Group rest = MPI_GROUP_NULL;
  MPI_Group world = MPI_GROUP_NULL;
  MPI_Comm_group(comm, &all);
  MPI_Comm_group(left, &some);
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  MPI_Group_difference(all, some, &rest);
  int count = 0;
  MPI_Group_size(rest, &count);
  std::vector<int> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  std::vector<int> ranks(numbers.size());
  MPI_Group_translate_ranks(rest, count, numbers.data(), world, ranks.data());
  for (MPI_Group* group : {&all, &some, &rest, &world}) {
    if (*group != MPI_GROUP_EMPTY) {
      MPI_Group_free(group);
    }
  }
  return ranks;
}

}  // namespace

std::string why_inelastic() {
  void* value = nullptr;
  int known = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPIX_FT, &value, &known);
  if (known != 0 && *static_cast<int*>(value) != 0) {
    return "";
  }
  return "MPI was started without fault tolerance. Start it with mpirun --with-ft ulfm";
}

std::optional<Left> leave_the_lost(MPI_Comm comm, std::chrono::milliseconds patience) {
  if (agreed_error(comm, patience) != MPIX_ERR_PROC_FAILED) {
    return std::nullopt;
  }
  Left left{MPI_COMM_NULL, {}};
  // This does not wait for long: all ranks that live have just agreed, and come here.
  if (MPIX_Comm_shrink(comm, &left.comm) != MPI_SUCCESS) {
    return std::nullopt;
  }
  MPI_Comm_set_errhandler(left.comm, MPI_ERRORS_RETURN);
  left.lost = missing_ranks(comm, left.comm);
  return left;
}

void end_without_the_lost(MPI_Comm comm) {
  // With a lost rank, Open MPI 5.0.7 sometimes hangs in MPI_Finalize, waiting for that rank too
  // (open-mpi/ompi issue 11404): here in one run of five. But it lets processes end without calling
  // MPI_Finalize.
  int flag = 1;
  MPIX_Comm_agree(comm, &flag);
}

}  // namespace syncbn::app
