// SPDX-License-Identifier: Apache-2.0
#pragma once

// This is the only public C++ header that needs <mpi.h>. What it declares is in a library of its
// own, libsyncbn_mpi (syncbn::mpi in CMake), which is installed with it if syncbn was built with
// MPI.

#include <mpi.h>

#include "syncbn/communicator.hpp"
#include "syncbn/export.h"

namespace syncbn {

/// An MpiExchange says who sums over MPI ranks.
enum class MpiExchange {
  builtin,  ///< this library: shared memory within hosts, point-to-point messages between them
  mpi       ///< MPI_Iallreduce: for networks that sum in hardware
};

/// Returns what SYNCBN_EXCHANGE in the environment says, "builtin" or "mpi"; without it, builtin.
/// Throws InvalidArgument for other values.
SYNCBN_API MpiExchange default_mpi_exchange();

/// Collective over `comm`. Makes a communicator of the ranks of `comm`; all give the same
/// `exchange`.
///
/// `comm` is duplicated, so that the library's messages cannot meet the caller's, and the duplicate
/// returns errors instead of aborting. `comm` itself stays as it is and may be freed afterwards.
/// MPI must be initialized, and finalized only after the last handle is gone. MPI_THREAD_SINGLE is
/// enough when one thread makes all calls. After a CommError MPI may still hold a request, so the
/// program should end with MPI_Abort.
///
/// Throws CommError at the deadline if a rank does not come, and says which, except while MPI
/// duplicates `comm`. A group's splits do so too, except those of MpiExchange::mpi into groups that
/// differ, for which MPI has only a blocking call. Throws InvalidArgument for MPI_COMM_NULL, for an
/// intercommunicator and if ranks give different exchanges, and NotConfigured unless MPI is
/// initialized and not finalized.
///
/// The built-in exchange takes 0.5 MB of memory, in no file system, for each rank of a host that
/// has several. It counts ranks as on one host if they are processes of one user and see each other
/// in /proc. On a single host its exchanges make no MPI calls. For a group on several hosts, or
/// with MpiExchange::mpi, MPI keeps a communicator for good.
SYNCBN_API Communicator mpi_communicator(MPI_Comm comm, Deadlines deadlines = default_deadlines(),
                                         MpiExchange exchange = default_mpi_exchange());

}  // namespace syncbn
