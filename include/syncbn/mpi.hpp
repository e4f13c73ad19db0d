// SPDX-License-Identifier: Apache-2.0
#pragma once

// The only public header that needs <mpi.h>. Present when the library was built with MPI.

#include <chrono>

#include <mpi.h>

#include "syncbn/communicator.hpp"

namespace syncbn {

/// Collective over `comm`. A communicator of the same ranks.
///
/// `comm` is duplicated, so that our messages cannot meet the caller's, and the duplicate returns
/// errors instead of aborting; `comm` itself stays as it is and may be freed afterwards. MPI must
/// be initialized, and finalized only after the last handle is gone. MPI_THREAD_SINGLE is enough
/// when one thread makes all calls. Each exchange is one MPI_Iallreduce, polled until `timeout`:
/// then the call throws CommError and the request is abandoned, so the program should end with
/// MPI_Abort.
Communicator mpi_communicator(MPI_Comm comm, std::chrono::milliseconds timeout = default_timeout);

}  // namespace syncbn
