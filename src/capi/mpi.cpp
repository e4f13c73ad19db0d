// SPDX-License-Identifier: Apache-2.0
#include "syncbn/c/mpi.h"

#include <mpi.h>

#include "syncbn/mpi.hpp"

#include "capi/guarded.hpp"
#include "capi/handles.hpp"

syncbn_status syncbn_communicator_mpi(MPI_Comm comm, double timeout_seconds,
                                      syncbn_communicator** out) {
  return syncbn::capi::guarded([&] {
    syncbn::capi::require(out, "out");
    *out = new syncbn_communicator{
        syncbn::mpi_communicator(comm, syncbn::capi::to_deadlines(timeout_seconds))};
  });
}
