/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include <mpi.h>

#include "syncbn/c/mpi.h"

#include "capi/expect.h"

/* Rank r holds r + 1 samples of one channel, all of value r: the whole batch's moments are known.
 */
int main(int argc, char** argv) {
  int rank, size;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);

  syncbn_communicator *world = NULL, *alone = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  EXPECT_OK(syncbn_communicator_mpi(MPI_COMM_WORLD, WITHIN(30), &world));
  EXPECT(syncbn_communicator_rank(world) == rank && syncbn_communicator_size(world) == size);
  EXPECT_OK(syncbn_batch_norm_new(1, world, NULL, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));

  double count = 0, sum = 0, squares = 0;
  for (int r = 0; r < size; ++r) {
    count += r + 1;
    sum += (r + 1) * r;
    squares += (r + 1) * r * r;
  }
  const double mean = sum / count;
  const double var = squares / count - mean * mean;

  float x[64], y[64];
  for (int i = 0; i <= rank; ++i) x[i] = (float)rank;
  syncbn_tensor tx = SYNCBN_TENSOR(x, SYNCBN_F32, SYNCBN_CHANNELS_FIRST, rank + 1, 1, 1);
  syncbn_tensor ty = SYNCBN_TENSOR(y, SYNCBN_F32, SYNCBN_CHANNELS_FIRST, rank + 1, 1, 1);
  EXPECT_OK(syncbn_batch_norm_forward(layer, &tx, NULL, NULL, &ty, record, NULL));
  EXPECT(fabs(y[rank] - (rank - mean) / sqrt(var + 1e-5)) < 2e-6);

  double one = 1;
  EXPECT_OK(syncbn_communicator_split(world, rank, &alone));
  EXPECT(syncbn_communicator_size(alone) == 1);
  EXPECT_OK(syncbn_communicator_all_reduce(world, &one, 1));
  EXPECT(one == size);

  syncbn_communicator* refused = NULL;
  EXPECT(syncbn_require_mpi("another MPI") == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "compiled for another MPI (the library for " SYNCBN_MPI ")"));
  EXPECT(syncbn_require_mpi(NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_require_mpi(SYNCBN_MPI));
  EXPECT(syncbn_communicator_mpi(MPI_COMM_WORLD, WITHIN(-1), &refused) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(refused == NULL);

  /* Each communicator has an exchange of its own. */
  syncbn_communicator_options options = SYNCBN_COMMUNICATOR_OPTIONS_INIT;
  options.exchange = 7;
  EXPECT(syncbn_communicator_mpi(MPI_COMM_WORLD, &options, &refused) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "7 is no syncbn_exchange") != NULL);
  for (options.exchange = SYNCBN_EXCHANGE_BUILTIN; options.exchange <= SYNCBN_EXCHANGE_MPI;
       ++options.exchange) {
    syncbn_communicator* other = NULL;
    double value = rank + 1.0;
    EXPECT_OK(syncbn_communicator_mpi(MPI_COMM_WORLD, &options, &other));
    EXPECT_OK(syncbn_communicator_all_reduce(other, &value, 1));
    EXPECT(value == size * (size + 1) / 2.0);
    syncbn_communicator_free(other);
  }
  options.exchange = rank == 0 ? SYNCBN_EXCHANGE_MPI : SYNCBN_EXCHANGE_BUILTIN;
  if (size > 1) {
    EXPECT(syncbn_communicator_mpi(MPI_COMM_WORLD, &options, &refused) == SYNCBN_INVALID_ARGUMENT);
  }

  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(alone);
  syncbn_communicator_free(world);
  MPI_Finalize();
  return 0;
}
