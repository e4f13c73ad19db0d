// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <mpi.h>

namespace syncbn::app {

/// Says why the others cannot go on when a rank of this program is lost, and what to do about it;
/// empty if they can.
std::string why_inelastic();

struct Left {
  MPI_Comm comm;          ///< the ranks that are left, in their order; returns errors
  std::vector<int> lost;  ///< the lost ranks' numbers in MPI_COMM_WORLD
};

/// Collective over the ranks of `comm` that live. Makes a communicator of them. Returns none on all
/// of them if no rank is lost, and none if one that lives does not come within `patience`.
std::optional<Left> leave_the_lost(MPI_Comm comm, std::chrono::milliseconds patience);

/// Collective over `comm`, the ranks that live. Takes the place of MPI_Finalize when ranks are
/// lost.
void end_without_the_lost(MPI_Comm comm);

}  // namespace syncbn::app
