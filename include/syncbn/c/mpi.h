/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_C_MPI_H
#define SYNCBN_C_MPI_H

/* Needs <mpi.h>. Present when the library was built with MPI. */

#include <mpi.h>

#include "syncbn/c/syncbn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The MPI whose header this is: what an MPI_Comm is differs between them. */
#if defined(OPEN_MPI)
#define SYNCBN_MPI "Open MPI"
#elif defined(MPICH_NAME) || defined(MPICH_VERSION) || defined(I_MPI_VERSION)
#define SYNCBN_MPI "MPICH" /* and all that share its binary interface */
#else
#define SYNCBN_MPI "another MPI"
#endif

/* SYNCBN_INVALID_ARGUMENT unless the library was built for the MPI of that name (SYNCBN_MPI). */
syncbn_status syncbn_require_mpi(const char* name);

/* Collective over comm. See syncbn/mpi.hpp. Who sums is as SYNCBN_EXCHANGE in the environment says,
 * builtin unless set. SYNCBN_INVALID_ARGUMENT in a program that was compiled for another MPI than
 * the library: to that end a macro of this name, below, asks syncbn_require_mpi first. Programs
 * that look the function up by its name ask it themselves. */
syncbn_status syncbn_communicator_mpi(MPI_Comm comm, double timeout_seconds,
                                      syncbn_communicator** out);
#define syncbn_communicator_mpi(comm, timeout_seconds, out)  \
  (syncbn_require_mpi(SYNCBN_MPI) == SYNCBN_OK               \
       ? syncbn_communicator_mpi(comm, timeout_seconds, out) \
       : SYNCBN_INVALID_ARGUMENT)

#ifdef __cplusplus
}
#endif

#endif
