/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_C_MPI_H
#define SYNCBN_C_MPI_H

/* Needs <mpi.h>. Present when the library was built with MPI. */

#include <mpi.h>

#include "syncbn/c/syncbn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective over comm. See syncbn/mpi.hpp. Who sums is as SYNCBN_EXCHANGE in the environment says,
 * service unless set. */
syncbn_status syncbn_communicator_mpi(MPI_Comm comm, double timeout_seconds,
                                      syncbn_communicator** out);

#ifdef __cplusplus
}
#endif

#endif
