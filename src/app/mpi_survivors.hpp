// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <mpi.h>

namespace syncbn::app {

/// Why nobody can go on when a rank of this program is lost, and what to do about it; empty if they
/// can.
std::string why_inelastic();

struct Left {
  MPI_Comm comm;          ///< of the ranks that are left, in their order; returns errors
  std::vector<int> lost;  ///< numbers in MPI_COMM_WORLD
};

/// Collective over the ranks of `comm` that live. None, on all of them, if nobody is lost; and none
/// if one that lives does not come within `patience`.
std::optional<Left> leave_the_lost(MPI_Comm comm, std::chrono::milliseconds patience);

/// Instead of MPI_Finalize where ranks are lost. Collective over `comm`, all that live.
void end_without_the_lost(MPI_Comm comm);

}  // namespace syncbn::app
