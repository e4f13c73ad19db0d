// SPDX-License-Identifier: Apache-2.0
#pragma once

// The only public header that needs <mpi.h>. Present when the library was built with MPI.

#include <mpi.h>

#include "syncbn/communicator.hpp"

namespace syncbn {

/// Who sums over MPI ranks.
enum class MpiExchange {
  builtin,  ///< this library: shared memory within hosts, point-to-point messages between them
  mpi       ///< MPI_Iallreduce: for networks that do it in hardware
};

/// From the environment: SYNCBN_EXCHANGE=builtin or mpi; else builtin. Throws
/// InvalidArgument for other values.
MpiExchange default_mpi_exchange();

/// Collective over `comm`; all ranks give the same exchange. A communicator of the same ranks.
///
/// `comm` is duplicated, so that our messages cannot meet the caller's, and the duplicate returns
/// errors instead of aborting; `comm` itself stays as it is and may be freed afterwards. MPI must
/// be initialized, and finalized only after the last handle is gone. MPI_THREAD_SINGLE is enough
/// when one thread makes all calls. After a CommError a request may be left to MPI, so the program
/// should end with MPI_Abort.
///
/// Throws CommError at the deadline if a rank does not come; only while MPI duplicates `comm` it
/// cannot be told which. So do a group's splits, but for MPI's into groups that differ, for
/// which MPI has a blocking call only.
///
/// The built-in exchange takes 0.5 MB of memory, in no file system, for each rank of a host that
/// has several, which are processes of one user and see each other in /proc; those that do not are
/// taken for ranks of different hosts. On a single host its exchanges make no MPI calls. Of a group
/// on several hosts, or with MPI's sum, MPI keeps a communicator for good.
Communicator mpi_communicator(MPI_Comm comm, Deadlines deadlines = default_deadlines(),
                              MpiExchange exchange = default_mpi_exchange());

}  // namespace syncbn
