/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_C_MPI_H
#define SYNCBN_C_MPI_H

/* This header needs <mpi.h>. What it declares is in a library of its own, libsyncbn_mpi (syncbn_mpi
 * for pkg-config), which is installed with it if syncbn was built with MPI. */

#include <mpi.h>

#include "syncbn/c/syncbn.h"

SYNCBN_C_API_BEGIN

/* SYNCBN_MPI names the MPI whose <mpi.h> is included: MPIs differ in what an MPI_Comm is. */
#if defined(OPEN_MPI)
#define SYNCBN_MPI "Open MPI"
#elif defined(MPICH_NAME) || defined(MPICH_VERSION) || defined(I_MPI_VERSION)
#define SYNCBN_MPI "MPICH" /* and all that share its binary interface */
#else
#define SYNCBN_MPI "another MPI"
#endif

/* Local. Returns SYNCBN_INVALID_ARGUMENT unless the library was built for the MPI of that name, a
 * value of SYNCBN_MPI. */
syncbn_status syncbn_require_mpi(const char* name);

/* Collective over comm. Makes a communicator of its ranks, all with the same exchange; see
 * syncbn/mpi.hpp. `options` may be NULL. After SYNCBN_COMM_ERROR end the program with MPI_Abort, as
 * MPI_Finalize may wait for a rank that is missing. Returns SYNCBN_INVALID_ARGUMENT in a program
 * that was compiled for another MPI than the library: a macro of this name, below, calls
 * syncbn_require_mpi first. Programs that look the function up by its name must call that
 * themselves. */
syncbn_status syncbn_communicator_mpi(MPI_Comm comm, const syncbn_communicator_options* options,
                                      syncbn_communicator** out);
#define syncbn_communicator_mpi(comm, options, out)                                          \
  (syncbn_require_mpi(SYNCBN_MPI) == SYNCBN_OK ? syncbn_communicator_mpi(comm, options, out) \
                                               : SYNCBN_INVALID_ARGUMENT)

SYNCBN_C_API_END

#endif
