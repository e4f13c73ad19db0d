/* SPDX-License-Identifier: Apache-2.0 */

/* The C ABI of the layer for devices gives what that of the layer for the host gives: on a CUDA
 * device, or with the host in its place. */

#include "syncbn/c/device.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "capi/device_memory.h"
#include "capi/expect.h"

enum { N = 4, C = 3, S = 5, SIZE = N * C * S };

static const syncbn_cuda_stream stream = NULL;

static syncbn_tensor tensor(void* data) {
  syncbn_tensor t = SYNCBN_TENSOR(data, SYNCBN_F32, SYNCBN_CHANNELS_FIRST, N, C, S);
  return t;
}

/* A tensor of the device's memory that holds these values. */
static syncbn_tensor placed(const float* values) {
  syncbn_tensor t = SYNCBN_TENSOR_ON(SYNCBN_ON_CUDA(0), on_device(values, SIZE * sizeof *values),
                                     SYNCBN_F32, SYNCBN_CHANNELS_FIRST, N, C, S);
  return t;
}

static int near_all(const float* values, const float* expected) {
  for (int i = 0; i < SIZE; ++i) {
    if (!(fabs(values[i] - expected[i]) < 1e-5)) return 0;
  }
  return 1;
}

static int near_each(const double* on_the_device, const double* expected) {
  double values[C];
  fetch(on_the_device, values, sizeof values);
  for (int c = 0; c < C; ++c) {
    if (!(fabs(values[c] - expected[c]) < 1e-4)) return 0;
  }
  return 1;
}

struct batch {
  float x[SIZE], residual[SIZE], dy[SIZE];
};

static struct batch drawn(void) {
  struct batch batch;
  for (int i = 0; i < SIZE; ++i) {
    batch.x[i] = 2.0f + 1.5f * (float)sin(0.7 * i);
    batch.residual[i] = (float)cos(1.3 * i);
    batch.dy[i] = (float)sin(2.1 * i);
  }
  return batch;
}

/* One step, with a residual or without, on the host and on the device. */
static void step_on_both(int with_residual) {
  struct batch batch = drawn();
  float y[SIZE], dx[SIZE], dresidual[SIZE], result[SIZE];
  syncbn_communicator* ranks = NULL;
  syncbn_device_communicator *self = NULL, *staged = NULL, *part = NULL;
  syncbn_batch_norm* host = NULL;
  syncbn_forward_record* host_record = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  options.name = "bn1";
  options.negative_slope = 0.1;

  EXPECT_OK(syncbn_communicator_self(&ranks));
  EXPECT_OK(syncbn_device_communicator_self(&self));
  EXPECT(syncbn_device_communicator_size(self) == 1);
  EXPECT_OK(syncbn_device_communicator_staged(ranks, WITHIN(30), &staged));
  EXPECT_OK(syncbn_device_communicator_split(staged, 7, &part));
  EXPECT(syncbn_device_communicator_rank(part) == 0);
  EXPECT_OK(syncbn_batch_norm_new(C, ranks, &options, &host));
  EXPECT_OK(syncbn_forward_record_new(&host_record));
  EXPECT_OK(syncbn_batch_norm_new_on_device(C, part, &options, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  EXPECT(syncbn_forward_record_mean(record) == NULL);

  syncbn_tensor x = tensor(batch.x), r = tensor(batch.residual), dy = tensor(batch.dy);
  syncbn_tensor ty = tensor(y), tdx = tensor(dx), tdresidual = tensor(dresidual);
  syncbn_tensor px = placed(batch.x), pr = placed(batch.residual), pdy = placed(batch.dy);
  syncbn_tensor py = placed(batch.x), pdx = placed(batch.x), pdresidual = placed(batch.x);
  const syncbn_tensor *residual = with_residual ? &r : NULL,
                      *presidual = with_residual ? &pr : NULL;
  EXPECT_OK(syncbn_batch_norm_forward(host, &x, residual, NULL, &ty, host_record, NULL));
  EXPECT_OK(syncbn_batch_norm_forward(layer, &px, presidual, NULL, &py, record, stream));
  fetch(py.data, result, sizeof result);
  EXPECT(near_all(result, y));
  EXPECT(syncbn_forward_record_var(record) != NULL && syncbn_forward_record_invstd(record) != NULL);

  EXPECT_OK(syncbn_batch_norm_backward(host, host_record, &x, with_residual ? &ty : NULL, &dy, NULL,
                                       &tdx, with_residual ? &tdresidual : NULL, NULL));
  EXPECT_OK(syncbn_batch_norm_backward(layer, record, &px, with_residual ? &py : NULL, &pdy, NULL,
                                       &pdx, with_residual ? &pdresidual : NULL, stream));
  EXPECT_OK(syncbn_device_communicator_synchronize(part, stream));
  EXPECT_OK(syncbn_device_communicator_poll(part));
  fetch(pdx.data, result, sizeof result);
  EXPECT(near_all(result, dx));
  if (with_residual) {
    fetch(pdresidual.data, result, sizeof result);
    EXPECT(near_all(result, dresidual));
  }
  EXPECT(near_each(syncbn_batch_norm_weight(layer), syncbn_batch_norm_weight(host)));
  EXPECT(near_each(syncbn_batch_norm_bias(layer), syncbn_batch_norm_bias(host)));
  EXPECT(near_each(syncbn_batch_norm_weight_grad(layer), syncbn_batch_norm_weight_grad(host)));
  EXPECT(near_each(syncbn_batch_norm_bias_grad(layer), syncbn_batch_norm_bias_grad(host)));
  EXPECT(near_each(syncbn_batch_norm_running_mean(layer), syncbn_batch_norm_running_mean(host)));
  EXPECT(near_each(syncbn_batch_norm_running_var(layer), syncbn_batch_norm_running_var(host)));
  int64_t batches = 0;
  fetch(syncbn_batch_norm_num_batches_tracked(layer), &batches, sizeof batches);
  EXPECT(batches == 1);
  const double zeros[C] = {0};
  EXPECT(!near_each(syncbn_batch_norm_bias_grad(layer), zeros));
  EXPECT_OK(syncbn_batch_norm_zero_grad(layer, stream));
  EXPECT(near_each(syncbn_batch_norm_bias_grad(layer), zeros));

  EXPECT_OK(syncbn_batch_norm_infer(host, &x, residual, NULL, &ty, NULL, NULL));
  EXPECT_OK(syncbn_batch_norm_infer(layer, &px, presidual, NULL, &py, NULL, stream));
  fetch(py.data, result, sizeof result);
  EXPECT(near_all(result, y));

  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  syncbn_forward_record_free(host_record);
  syncbn_batch_norm_free(host);
  syncbn_device_communicator_free(part);
  syncbn_device_communicator_free(staged);
  syncbn_device_communicator_free(self);
  syncbn_communicator_free(ranks);
}

static void y_alone_is_enough(void) {
  struct batch batch = drawn();
  float dx[SIZE], result[SIZE];
  syncbn_device_communicator* self = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  EXPECT_OK(syncbn_device_communicator_self(&self));
  EXPECT_OK(syncbn_batch_norm_new_on_device(C, self, NULL, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  syncbn_tensor x = placed(batch.x), y = placed(batch.x), dy = placed(batch.dy);
  syncbn_tensor pdx = placed(batch.x);
  EXPECT_OK(syncbn_batch_norm_forward(layer, &x, NULL, NULL, &y, record, stream));
  EXPECT_OK(syncbn_batch_norm_backward(layer, record, &x, NULL, &dy, NULL, &pdx, NULL, stream));
  fetch(pdx.data, dx, sizeof dx);
  EXPECT_OK(syncbn_batch_norm_forward_in_place(layer, &x, NULL, record, stream));
  EXPECT(syncbn_batch_norm_backward(layer, record, &x, NULL, &dy, NULL, &pdx, NULL, stream) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_batch_norm_backward_in_place(layer, record, &x, &dy, NULL, &dy, stream));
  fetch(dy.data, result, sizeof result);
  EXPECT(near_all(result, dx));
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  syncbn_device_communicator_free(self);
}

static void state_goes_from_the_device_to_the_host_and_back(void) {
  static const char* const file = "capi_device_test.safetensors";
  const double weights[C] = {1, 2, 3};
  syncbn_communicator* ranks = NULL;
  syncbn_device_communicator* self = NULL;
  syncbn_batch_norm* host = NULL;
  syncbn_batch_norm* layer = NULL;
  EXPECT_OK(syncbn_communicator_self(&ranks));
  EXPECT_OK(syncbn_device_communicator_self(&self));
  EXPECT_OK(syncbn_batch_norm_new(C, ranks, NULL, &host));
  EXPECT_OK(syncbn_batch_norm_new_on_device(C, self, NULL, &layer));

  memcpy(syncbn_batch_norm_weight(host), weights, sizeof weights);
  EXPECT_OK(syncbn_batch_norm_save(host, file, NULL));
  EXPECT_OK(syncbn_batch_norm_load(layer, file, stream));
  EXPECT(near_each(syncbn_batch_norm_weight(layer), weights));
  memset(syncbn_batch_norm_weight(host), 0, sizeof weights);
  EXPECT_OK(syncbn_batch_norm_save(layer, file, stream));
  EXPECT_OK(syncbn_batch_norm_load(host, file, NULL));
  EXPECT(memcmp(syncbn_batch_norm_weight(host), weights, sizeof weights) == 0);
  EXPECT(remove(file) == 0);
  EXPECT(syncbn_batch_norm_load(layer, file, stream) == SYNCBN_FILE_ERROR);
  EXPECT(strstr(syncbn_last_error(), file) != NULL);

  syncbn_batch_norm_free(layer);
  syncbn_batch_norm_free(host);
  syncbn_device_communicator_free(self);
  syncbn_communicator_free(ranks);
}

static void sums_are_of_the_device(void) {
  double values[2] = {3, 4};
  syncbn_device_communicator* self = NULL;
  EXPECT_OK(syncbn_device_communicator_self(&self));
  double* placed_values = on_device(values, sizeof values);
  EXPECT_OK(syncbn_device_communicator_all_reduce(self, placed_values, 2, stream));
  fetch(placed_values, values, 2 * sizeof *values);
  EXPECT(values[0] == 3 && values[1] == 4);
  EXPECT(syncbn_device_communicator_all_reduce(self, NULL, 2, stream) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_device_communicator_self(NULL) == SYNCBN_INVALID_ARGUMENT);
  syncbn_device_communicator_free(self);
}

static void what_is_wrong_is_refused(void) {
  struct batch batch = drawn();
  syncbn_device_communicator* self = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  EXPECT_OK(syncbn_device_communicator_self(&self));
  EXPECT(syncbn_batch_norm_new_on_device(0, self, NULL, &layer) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(layer == NULL);
  EXPECT_OK(syncbn_batch_norm_new_on_device(C, self, NULL, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  syncbn_tensor x = placed(batch.x), y = placed(batch.x);
  syncbn_tensor bad = x;
  bad.dtype = 99;
  EXPECT(syncbn_batch_norm_forward(layer, &bad, NULL, NULL, &y, record, stream) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_backward(layer, record, &x, NULL, &y, NULL, &y, NULL, stream) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "the record is empty") != NULL);
  EXPECT(syncbn_batch_norm_backward(layer, record, &x, &y, &y, NULL, &y, NULL, stream) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "go together") != NULL);
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  syncbn_device_communicator_free(self);
}

/* A framework's collective for a single rank of a group: nothing to add. */
static int alone(double* values, size_t count, syncbn_cuda_stream on, void* user) {
  (void)values;
  (void)count;
  (void)on;
  ++*(int*)user;
  return 0;
}

static void a_framework_brings_its_collective(void) {
  int calls = 0;
  syncbn_communicator* host = NULL;
  syncbn_device_communicator* group = NULL;
  EXPECT_OK(syncbn_communicator_self(&host));
  EXPECT(syncbn_device_communicator_custom(host, NULL, NULL, &calls, WITHIN(5), &group) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_device_communicator_custom(host, alone, NULL, &calls, WITHIN(5), &group));
  EXPECT(syncbn_device_communicator_device(group) == SYNCBN_ON_CUDA(0));
  EXPECT(syncbn_device_communicator_device(NULL) == SYNCBN_ON_CPU);
  void* values = NULL;
  EXPECT(syncbn_device_memory_new(sizeof(double), NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_device_memory_new(sizeof(double), &values));
  EXPECT_OK(syncbn_device_communicator_all_reduce(group, values, 1, stream));
  EXPECT(calls == 0); /* it is not called in a group of one */
  syncbn_device_memory_free(values);
  syncbn_device_memory_free(NULL);
  syncbn_device_communicator_free(group);
  syncbn_communicator_free(host);
}

int main(void) {
  if (strlen(why_no_device()) != 0) {
    puts(why_no_device());
    return 0;
  }
  step_on_both(0);
  step_on_both(1);
  y_alone_is_enough();
  state_goes_from_the_device_to_the_host_and_back();
  sums_are_of_the_device();
  what_is_wrong_is_refused();
  a_framework_brings_its_collective();
  puts("passed");
  return 0;
}
