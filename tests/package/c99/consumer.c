/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>

#include "syncbn/c/syncbn.h"

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, syncbn_last_error());
  return 1;
}

/* Two channels of 1, 3 and 5, 9: normalized, each is -1, 1 (eps = 0). */
static int forward(syncbn_batch_norm* layer, syncbn_forward_record* record) {
  float x[] = {1, 5, 3, 9};
  float y[4];
  const float expected[] = {-1, -1, 1, 1};
  const syncbn_tensor in = SYNCBN_TENSOR(x, SYNCBN_F32, SYNCBN_CHANNELS_FIRST, 2, 2, 1);
  const syncbn_tensor out = SYNCBN_TENSOR(y, SYNCBN_F32, SYNCBN_CHANNELS_FIRST, 2, 2, 1);
  int i;
  if (syncbn_batch_norm_forward(layer, &in, NULL, NULL, &out, record, NULL) != SYNCBN_OK) {
    return failed("forward");
  }
  for (i = 0; i < 4; ++i) {
    if (fabs(y[i] - expected[i]) > 1e-6) {
      fprintf(stderr, "y[%d] = %g, expected %g\n", i, y[i], expected[i]);
      return 1;
    }
  }
  return 0;
}

int main(void) {
  syncbn_communicator* self = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  int status;
  options.eps = 0;
  if (syncbn_batch_norm_new(0, self, &options, &layer) == SYNCBN_OK || !syncbn_last_error()[0]) {
    fprintf(stderr, "a layer of no channels was made\n");
    return 1;
  }
  if (syncbn_communicator_self(&self) != SYNCBN_OK ||
      syncbn_batch_norm_new(2, self, &options, &layer) != SYNCBN_OK ||
      syncbn_forward_record_new(&record) != SYNCBN_OK) {
    return failed("setting up");
  }
  status = forward(layer, record);
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(self);
  printf("syncbn %s from C99, compiled with headers of %d\n", syncbn_version(), SYNCBN_VERSION);
  return status;
}
