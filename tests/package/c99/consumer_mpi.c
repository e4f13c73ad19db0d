/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include <mpi.h>

#include "syncbn/c/mpi.h"

/* Every rank counts itself. */
int main(int argc, char** argv) {
  syncbn_communicator* group = NULL;
  double count = 1;
  int failed;
  MPI_Init(&argc, &argv);
  failed = syncbn_communicator_mpi(MPI_COMM_WORLD, NULL, &group) != SYNCBN_OK ||
           syncbn_communicator_all_reduce(group, &count, 1) != SYNCBN_OK;
  if (failed) {
    fprintf(stderr, "%s\n", syncbn_last_error());
  } else {
    printf("rank %d of %d counts %g from C99\n", syncbn_communicator_rank(group),
           syncbn_communicator_size(group), count);
    failed = syncbn_communicator_size(group) != 2 || count != 2;
  }
  syncbn_communicator_free(group);
  MPI_Finalize();
  return failed;
}
