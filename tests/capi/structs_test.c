/* SPDX-License-Identifier: Apache-2.0 */

/* Structs of programs that were compiled with another header than the library's. */

#include <stddef.h>
#include <string.h>

#include "expect.h"
#include "small_tensor.h"

/* The options of a header that is newer than the library. */
typedef struct newer_options {
  syncbn_options known;
  double unknown;
  const char* name_of_unknown;
} newer_options;

typedef struct newer_tensor {
  syncbn_tensor known;
  int64_t unknown;
} newer_tensor;

typedef struct newer_forward_call {
  syncbn_forward_call known;
  const void* unknown;
} newer_forward_call;

static syncbn_communicator* self = NULL;

static syncbn_status make(const syncbn_options* options) {
  syncbn_batch_norm* layer = NULL;
  const syncbn_status status = syncbn_batch_norm_new(C, self, options, &layer);
  EXPECT((layer != NULL) == (status == SYNCBN_OK));
  syncbn_batch_norm_free(layer);
  return status;
}

static void initializers_are_the_defaults(void) {
  float x[SIZE], y[SIZE], expected[SIZE];
  const syncbn_options options = SYNCBN_OPTIONS_INIT;
  const syncbn_options* choices[] = {NULL, &options};
  double running_mean[2];
  for (int i = 0; i < SIZE; ++i) x[i] = sample(i);
  for (int k = 0; k < 2; ++k) {
    syncbn_batch_norm* layer = NULL;
    syncbn_forward_record* record = NULL;
    syncbn_tensor tx = tensor(x, N), ty = tensor(k == 0 ? expected : y, N);
    EXPECT_OK(syncbn_batch_norm_new(C, self, choices[k], &layer));
    EXPECT_OK(syncbn_forward_record_new(&record));
    EXPECT_OK(syncbn_batch_norm_forward(layer, &tx, NULL, NULL, &ty, record, NULL));
    EXPECT(syncbn_batch_norm_weight(layer) != NULL);
    running_mean[k] = syncbn_batch_norm_running_mean(layer)[0];
    syncbn_forward_record_free(record);
    syncbn_batch_norm_free(layer);
  }
  EXPECT(memcmp(y, expected, sizeof y) == 0);
  EXPECT(running_mean[0] == running_mean[1] && running_mean[0] != 0);
}

static void sizes_that_no_version_had_are_refused(void) {
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  const size_t wrong[] = {0, 8, offsetof(syncbn_options, backend), (size_t)-1};
  for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; ++k) {
    options.size = wrong[k];
    EXPECT(make(&options) == SYNCBN_INVALID_ARGUMENT);
    EXPECT(strstr(syncbn_last_error(), "options.size is ") != NULL);
    EXPECT(strstr(syncbn_last_error(), "SYNCBN_OPTIONS_INIT") != NULL);
  }
  float x[SIZE] = {0};
  syncbn_tensor good = tensor(x, N), bad = good;
  double sums[2 * C + 1], pivot[C] = {0};
  bad.size = 0;
  EXPECT(syncbn_forward_sums(&bad, NULL, pivot, sums, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "x.size is 0") != NULL);
  EXPECT_OK(syncbn_forward_sums(&good, NULL, pivot, sums, NULL));
}

static void flags_are_0_or_1(void) {
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  options.exact = 2;
  EXPECT(make(&options) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "options.exact = 2 (0 or 1)") != NULL);
}

static void members_of_a_newer_header_may_be_zero(void) {
  newer_options options;
  memset(&options, 0, sizeof options);
  const syncbn_options known = SYNCBN_OPTIONS_INIT;
  options.known = known;
  options.known.size = sizeof options;
  EXPECT_OK(make(&options.known));
  options.unknown = 1;
  EXPECT(make(&options.known) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "does not know") != NULL);
  options.known.size = sizeof options.known; /* what is behind it is not the library's business */
  EXPECT_OK(make(&options.known));
}

static void calls_lie_as_far_apart_as_their_size_says(void) {
  enum { LAYERS = 2 };
  float x[SIZE], y[LAYERS][SIZE];
  newer_forward_call calls[LAYERS];
  newer_tensor in[LAYERS];
  syncbn_tensor out[LAYERS];
  syncbn_batch_norm* layers[LAYERS];
  syncbn_forward_record* record[LAYERS];
  memset(calls, 0, sizeof calls);
  memset(in, 0, sizeof in);
  for (int i = 0; i < SIZE; ++i) x[i] = sample(i);
  for (int k = 0; k < LAYERS; ++k) {
    EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layers[k]));
    EXPECT_OK(syncbn_forward_record_new(&record[k]));
    in[k].known = tensor(x, N);
    in[k].known.size = sizeof in[k];
    out[k] = tensor(y[k], N);
    calls[k].known.size = sizeof calls[k];
    calls[k].known.layer = layers[k];
    calls[k].known.x = &in[k].known;
    calls[k].known.y = &out[k];
    calls[k].known.record = record[k];
  }
  EXPECT_OK(syncbn_forward_together(&calls[0].known, LAYERS));
  EXPECT(memcmp(y[0], y[1], sizeof y[0]) == 0);
  calls[1].known.size = sizeof calls[1].known;
  EXPECT(syncbn_forward_together(&calls[0].known, LAYERS) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "calls[1].size") != NULL);
  calls[1].known.size = sizeof calls[1];
  EXPECT(syncbn_forward_together(&calls[0].known, (size_t)-1) == SYNCBN_INVALID_ARGUMENT);
  for (int k = 0; k < LAYERS; ++k) {
    syncbn_forward_record_free(record[k]);
    syncbn_batch_norm_free(layers[k]);
  }
}

int main(void) {
  EXPECT_OK(syncbn_communicator_self(&self));
  initializers_are_the_defaults();
  sizes_that_no_version_had_are_refused();
  flags_are_0_or_1();
  members_of_a_newer_header_may_be_zero();
  calls_lie_as_far_apart_as_their_size_says();
  syncbn_communicator_free(self);
  puts("passed");
  return 0;
}
