/* SPDX-License-Identifier: Apache-2.0 */

/* A program in C brings its own memory: parameters of a layer, records, what is allocated, state,
 * and the arrays between the phases. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "capi/expect.h"
#include "capi/small_tensor.h"

static syncbn_communicator* self;

static void fill(float* x) {
  for (int i = 0; i < SIZE; ++i) x[i] = sample(i);
}

static void a_layer_uses_the_programs_arrays(void) {
  float x[SIZE], y[SIZE], expected[SIZE], gradient[C] = {0}, bias_gradient[C] = {0};
  float weight[C] = {1, 2, 3}, bias[C] = {0, 0.5f, -1}, mean[C] = {0}, var[C] = {1, 1, 1};
  int64_t batches = 0;
  syncbn_batch_norm *layer = NULL, *twin = NULL;
  syncbn_forward_record* record = NULL;
  syncbn_layer_memory memory = SYNCBN_LAYER_MEMORY_INIT;
  fill(x);
  syncbn_tensor tx = tensor(x, N), ty = tensor(y, N), texpected = tensor(expected, N);
  EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layer));
  EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &twin));
  EXPECT_OK(syncbn_forward_record_new(&record));
  memory.weight.data = weight;
  EXPECT(syncbn_batch_norm_use(layer, &memory) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "-1 is no syncbn_dtype") != NULL);
  memory.weight.dtype = SYNCBN_F32;
  EXPECT(syncbn_batch_norm_use(layer, &memory) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "Give both") != NULL);
  const syncbn_array arrays[] = {{bias, SYNCBN_F32},
                                 {gradient, SYNCBN_F32},
                                 {bias_gradient, SYNCBN_F32},
                                 {mean, SYNCBN_F32},
                                 {var, SYNCBN_F32}};
  memory.bias = arrays[0];
  memory.weight_grad = arrays[1];
  memory.bias_grad = arrays[2];
  memory.running_mean = arrays[3];
  memory.running_var = arrays[4];
  memory.num_batches_tracked = &batches;
  EXPECT_OK(syncbn_batch_norm_use(layer, &memory));
  EXPECT(syncbn_batch_norm_weight(layer) == NULL && syncbn_batch_norm_bias(layer) == NULL);
  EXPECT(syncbn_batch_norm_num_batches_tracked(layer) == &batches);
  for (int c = 0; c < C; ++c) {
    syncbn_batch_norm_weight(twin)[c] = weight[c];
    syncbn_batch_norm_bias(twin)[c] = bias[c];
  }
  EXPECT_OK(syncbn_batch_norm_forward(twin, &tx, NULL, NULL, &texpected, record, NULL));
  EXPECT_OK(syncbn_batch_norm_backward(twin, record, &tx, NULL, &tx, NULL, &ty, NULL, NULL));
  EXPECT_OK(syncbn_batch_norm_forward(layer, &tx, NULL, NULL, &ty, record, NULL));
  EXPECT(memcmp(y, expected, sizeof y) == 0);
  EXPECT_OK(syncbn_batch_norm_backward(layer, record, &tx, NULL, &tx, NULL, &ty, NULL, NULL));
  EXPECT(batches == 1);
  for (int c = 0; c < C; ++c) {
    EXPECT(gradient[c] == (float)syncbn_batch_norm_weight_grad(twin)[c]);
    EXPECT(bias_gradient[c] == (float)syncbn_batch_norm_bias_grad(twin)[c]);
    EXPECT(mean[c] == (float)syncbn_batch_norm_running_mean(twin)[c]);
    EXPECT(var[c] == (float)syncbn_batch_norm_running_var(twin)[c]);
  }
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(twin);
  syncbn_batch_norm_free(layer);
}

static void a_record_is_in_the_programs_memory(void) {
  float x[SIZE], y[SIZE];
  double* values = malloc(syncbn_forward_record_length(C) * sizeof *values);
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  fill(x);
  syncbn_tensor tx = tensor(x, N), ty = tensor(y, N);
  EXPECT(syncbn_forward_record_length(C) >= 3 * C + 1 && syncbn_forward_record_length(0) == 0);
  EXPECT(syncbn_forward_record_new_in(NULL, C, SYNCBN_ON_CPU, &record) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_forward_record_new_in(values, C, -3, &record) == SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_forward_record_new_in(values, C, SYNCBN_ON_CPU, &record));
  EXPECT(syncbn_forward_record_mean(record) == NULL);
  EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layer));
  EXPECT_OK(syncbn_batch_norm_forward(layer, &tx, NULL, NULL, &ty, record, NULL));
  EXPECT(syncbn_forward_record_mean(record) == values);
  EXPECT(syncbn_forward_record_count(record)[0] == N * S);
  for (int c = 0; c < C; ++c) {
    const double var = syncbn_forward_record_var(record)[c];
    EXPECT(fabs(syncbn_forward_record_invstd(record)[c] - 1 / sqrt(var + 1e-5)) < 1e-12);
  }
  syncbn_batch_norm_free(layer);
  syncbn_forward_record_free(record);
  free(values);
}

static int in_use;

static void* allocate(size_t bytes, void* user) {
  ++*(int*)user;
  return malloc(bytes);
}

static void release(void* memory, void* user) {
  --*(int*)user;
  free(memory);
}

static void* none(size_t bytes, void* user) {
  (void)bytes;
  (void)user;
  return NULL;
}

static void the_program_allocates(void) {
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  syncbn_batch_norm* layer = NULL;
  syncbn_scratch* scratch = NULL;
  options.allocate = allocate;
  EXPECT(syncbn_batch_norm_new(C, self, &options, &layer) == SYNCBN_INVALID_ARGUMENT);
  options.release = release;
  options.user = &in_use;
  EXPECT_OK(syncbn_batch_norm_new(C, self, &options, &layer));
  EXPECT(in_use == 1);
  syncbn_batch_norm_free(layer);
  EXPECT(in_use == 0);
  options.allocate = none;
  EXPECT(syncbn_batch_norm_new(C, self, &options, &layer) == SYNCBN_INTERNAL_ERROR);
  EXPECT(syncbn_scratch_new(allocate, NULL, NULL, &scratch) == SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_scratch_new(allocate, release, &in_use, &scratch));
  syncbn_scratch_free(scratch);
}

static void state_goes_through_the_programs_arrays(void) {
  double weight[C] = {1, 2, 3}, bias[C] = {4, 5, 6}, mean[C] = {7, 8, 9}, var[C] = {1, 2, 3};
  double got[4][C];
  syncbn_batch_norm* layer = NULL;
  syncbn_state state = SYNCBN_STATE_INIT, copy = SYNCBN_STATE_INIT;
  EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layer));
  state.weight = weight;
  state.bias = bias;
  state.running_mean = mean;
  EXPECT(syncbn_batch_norm_set_state(layer, &state, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_weight(layer)[1] == 1);
  state.running_var = var;
  state.num_batches_tracked = 42;
  EXPECT_OK(syncbn_batch_norm_set_state(layer, &state, NULL));
  copy.weight = got[0];
  copy.bias = got[1];
  copy.running_mean = got[2];
  EXPECT(syncbn_batch_norm_get_state(layer, &copy, NULL) == SYNCBN_INVALID_ARGUMENT);
  copy.running_var = got[3];
  EXPECT_OK(syncbn_batch_norm_get_state(layer, &copy, NULL));
  EXPECT(memcmp(got[0], weight, sizeof weight) == 0 && memcmp(got[1], bias, sizeof bias) == 0);
  EXPECT(memcmp(got[2], mean, sizeof mean) == 0 && memcmp(got[3], var, sizeof var) == 0);
  EXPECT(copy.num_batches_tracked == 42);
  syncbn_batch_norm_free(layer);
}

/* Three steps of a layer, and of the phases with what the layer decides between them. */
static void the_decisions_are_the_layers(void) {
  float x[SIZE], y[SIZE], layer_y[SIZE], dx[SIZE];
  double pivot[C] = {0}, running_mean[C] = {0}, running_var[C] = {1, 1, 1};
  double start_mean[C], start_var[C], sums[2 * C + 1], mean[C], var[C], invstd[C], count;
  double weight_grad[C] = {0}, bias_grad[C] = {0};
  int64_t batches = 0;
  uint64_t before, after;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  syncbn_scratch* scratch = NULL;
  syncbn_phase_options options = SYNCBN_PHASE_OPTIONS_INIT;
  syncbn_batch_state state = SYNCBN_BATCH_STATE_INIT;
  const syncbn_array no_array = SYNCBN_NO_ARRAY;
  const syncbn_array grads[2] = {{weight_grad, SYNCBN_F64}, {bias_grad, SYNCBN_F64}};
  syncbn_tensor tx = tensor(x, N), ty = tensor(y, N), tdx = tensor(dx, N);
  syncbn_tensor tlayer_y = tensor(layer_y, N);
  EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  EXPECT_OK(syncbn_scratch_new(NULL, NULL, NULL, &scratch));
  options.scratch = scratch;
  state.channels = C;
  state.pivot = pivot;
  EXPECT(syncbn_expect_batch(&state, 0.1, SYNCBN_F32, &options) == SYNCBN_INVALID_ARGUMENT);
  state.running_mean.data = running_mean;
  state.running_mean.dtype = SYNCBN_F64;
  state.running_var.data = running_var;
  state.running_var.dtype = SYNCBN_F64;
  EXPECT(syncbn_expect_batch(&state, 0.1, SYNCBN_F32, &options) == SYNCBN_INVALID_ARGUMENT);
  state.start_mean = start_mean;
  state.start_var = start_var;
  state.num_batches_tracked = &batches;
  memset(start_mean, 0, sizeof start_mean);
  for (int c = 0; c < C; ++c) start_var[c] = 1;
  EXPECT_OK(syncbn_expect_batch(&state, 0.1, SYNCBN_F32, &options));
  for (int step = 0; step < 3; ++step) {
    int any = 1;
    syncbn_pass pass = SYNCBN_PASS_INIT;
    for (int i = 0; i < SIZE; ++i) x[i] = 1e4f * (float)step + sample(i + step);
    EXPECT_OK(syncbn_state_digest(&state, no_array, no_array, &before, &options));
    for (int round = 0; any; ++round) {
      EXPECT_OK(syncbn_forward_sums(&tx, NULL, pivot, sums, &options));
      EXPECT_OK(syncbn_move_far_pivots(C, sums, pivot, 1e-5, SYNCBN_F32, round, &any));
    }
    EXPECT_OK(syncbn_finalize_batch(sums, &state, 1e-5, 0.1, SYNCBN_F32, mean, var, invstd, &count,
                                    &options));
    EXPECT_OK(syncbn_state_digest(&state, no_array, no_array, &after, &options));
    EXPECT(before != after);
    pass.mean = mean;
    pass.invstd = invstd;
    EXPECT_OK(syncbn_normalize(&tx, &pass, &ty, &options));
    EXPECT_OK(syncbn_batch_norm_forward(layer, &tx, NULL, NULL, &tlayer_y, record, NULL));
    EXPECT(memcmp(y, layer_y, sizeof y) == 0);
    EXPECT(memcmp(running_mean, syncbn_batch_norm_running_mean(layer), sizeof running_mean) == 0);
    EXPECT(memcmp(running_var, syncbn_batch_norm_running_var(layer), sizeof running_var) == 0);
    EXPECT(batches == step + 1 && count == N * S);
    pass.dy = &ty;
    EXPECT_OK(syncbn_backward_sums(&tx, &pass, sums, &options));
    EXPECT_OK(syncbn_add_parameter_gradients(C, sums, invstd, grads[0], grads[1], SYNCBN_ON_CPU,
                                             &options));
    EXPECT_OK(syncbn_batch_norm_backward(layer, record, &tx, NULL, &ty, NULL, &tdx, NULL, NULL));
    EXPECT(memcmp(weight_grad, syncbn_batch_norm_weight_grad(layer), sizeof weight_grad) == 0);
    EXPECT(memcmp(bias_grad, syncbn_batch_norm_bias_grad(layer), sizeof bias_grad) == 0);
  }
  EXPECT(syncbn_batch_norm_pivot_retries(layer) > 0);
  syncbn_scratch_free(scratch);
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
}

int main(void) {
  EXPECT_OK(syncbn_communicator_self(&self));
  a_layer_uses_the_programs_arrays();
  a_record_is_in_the_programs_memory();
  the_program_allocates();
  state_goes_through_the_programs_arrays();
  the_decisions_are_the_layers();
  syncbn_communicator_free(self);
  puts("passed");
  return 0;
}
