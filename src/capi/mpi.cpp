// SPDX-License-Identifier: Apache-2.0
#include "syncbn/c/mpi.h"

#include <string>
#include <string_view>

#include <mpi.h>

#include "syncbn/error.hpp"
#include "syncbn/mpi.hpp"

#include "capi/guarded.hpp"
#include "capi/handles.hpp"

syncbn_status syncbn_require_mpi(const char* name) {
  return syncbn::capi::guarded([&] {
    syncbn::capi::require(name, "name");
    if (std::string_view(name) != SYNCBN_MPI) {
      throw syncbn::InvalidArgument("this program was compiled for " + std::string(name) +
                                    " (the library for " SYNCBN_MPI
                                    "). Compile both for the same MPI, and run with its launcher.");
    }
  });
}

// The parentheses keep the macro of this name out.
syncbn_status(syncbn_communicator_mpi)(MPI_Comm comm, const syncbn_communicator_options* options,
                                       syncbn_communicator** out) {
  return syncbn::capi::guarded([&] {
    syncbn::capi::require(out, "out");
    const syncbn_exchange wanted = syncbn::capi::exchange_of(options);
    const syncbn::MpiExchange exchange =
        wanted == SYNCBN_EXCHANGE_DEFAULT   ? syncbn::default_mpi_exchange()
        : wanted == SYNCBN_EXCHANGE_BUILTIN ? syncbn::MpiExchange::builtin
                                            : syncbn::MpiExchange::mpi;
    *out = new syncbn_communicator{
        syncbn::mpi_communicator(comm, syncbn::capi::to_deadlines(options), exchange)};
  });
}
