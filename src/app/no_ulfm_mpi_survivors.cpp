// SPDX-License-Identifier: Apache-2.0
#include "app/mpi_survivors.hpp"

namespace syncbn::app {

std::string why_inelastic() {
  return "the MPI of this build has no ULFM, by which ranks go on without a lost one. Build with "
         "Open MPI 5, or save checkpoints (--save-every) and go on from the last (--resume)";
}

std::optional<Left> leave_the_lost(MPI_Comm, std::chrono::milliseconds) {
  return std::nullopt;
}

void end_without_the_lost(MPI_Comm) {}

}  // namespace syncbn::app
