/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* setenv, readdir, rmdir */

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "syncbn/c/device.h"

#include "capi/expect.h"
#include "capi/small_tensor.h"

/* How many files the directory had, which are removed; `text` begins as the last of them. */
static int remove_files_of(const char* directory, char* text, size_t size) {
  int files = 0;
  DIR* opened = opendir(directory);
  EXPECT(opened != NULL);
  for (struct dirent* entry; (entry = readdir(opened)) != NULL;) {
    char path[512];
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
    FILE* file = fopen(path, "r");
    EXPECT(file != NULL);
    text[fread(text, 1, size - 1, file)] = 0;
    fclose(file);
    EXPECT(remove(path) == 0);
    ++files;
  }
  closedir(opened);
  return files;
}

/* Mean and variance of channel c of x [n, C, S], from the definition. */
static void moments(const float* x, int n, int c, double* mean, double* var) {
  double sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    for (int s = 0; s < S; ++s) sum += x[(i * C + c) * S + s];
  }
  *mean = sum / (n * S);
  for (int i = 0; i < n; ++i) {
    for (int s = 0; s < S; ++s) squares += pow(x[(i * C + c) * S + s] - *mean, 2);
  }
  *var = squares / (n * S);
}

struct rank {
  syncbn_communicator* group;
  float x[SIZE], y[SIZE], dx[SIZE];
};

static void* act_as_rank(void* argument) {
  struct rank* self = argument;
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  options.name = "bn1";
  EXPECT_OK(syncbn_batch_norm_new(C, self->group, &options, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  syncbn_tensor x = tensor(self->x, N), y = tensor(self->y, N), dx = tensor(self->dx, N);
  EXPECT_OK(syncbn_batch_norm_forward(layer, &x, NULL, NULL, &y, record, NULL));
  EXPECT_OK(syncbn_batch_norm_backward(layer, record, &x, NULL, &y, NULL, &dx, NULL, NULL));
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  return NULL;
}

static void* share_memory(void* argument) {
  double sum = 1;
  syncbn_communicator *bootstrap = argument, *group = NULL;
  EXPECT_OK(syncbn_communicator_processes(bootstrap, WITHIN(30), &group));
  EXPECT(syncbn_communicator_rank(group) == syncbn_communicator_rank(bootstrap));
  EXPECT_OK(syncbn_communicator_all_reduce(group, &sum, 1));
  EXPECT(sum == 2);
  syncbn_communicator_free(group);
  return NULL;
}

static void ranks_share_memory_over_another_group(void) {
  syncbn_communicator* handles[2];
  pthread_t thread;
  EXPECT_OK(syncbn_communicator_threads(2, WITHIN(30), handles));
  EXPECT(pthread_create(&thread, NULL, share_memory, handles[1]) == 0);
  share_memory(handles[0]);
  EXPECT(pthread_join(thread, NULL) == 0);
  for (int r = 0; r < 2; ++r) syncbn_communicator_free(handles[r]);
}

/* A rank that takes the statistics of its part of a population. */
struct census {
  syncbn_communicator* group;
  float* x;
  int64_t n; /* samples, in batches of one */
  double mean[C], var[C], count;
};

static void* take_census(void* argument) {
  struct census* self = argument;
  syncbn_population* population = NULL;
  EXPECT_OK(syncbn_population_new(C, &population));
  for (int64_t i = 0; i < self->n; ++i) {
    syncbn_tensor x = tensor(self->x + i * C * S, 1);
    EXPECT_OK(syncbn_population_add(population, &x, NULL));
  }
  EXPECT_OK(syncbn_population_finish(population, self->group, self->mean, self->var, &self->count));
  syncbn_population_free(population);
  return NULL;
}

static void population_is_that_of_all_ranks(void) {
  syncbn_communicator* handles[2];
  struct census ranks[2];
  pthread_t thread;
  float all[SIZE];
  syncbn_batch_norm* layer = NULL;
  for (int i = 0; i < SIZE; ++i) all[i] = sample(i) + 0.1f * (float)i;
  EXPECT_OK(syncbn_communicator_threads(2, WITHIN(30), handles));
  for (int r = 0; r < 2; ++r) {
    ranks[r].group = handles[r];
    ranks[r].x = r == 0 ? all : all + C * S; /* one sample, and three */
    ranks[r].n = r == 0 ? 1 : N - 1;
  }
  EXPECT(pthread_create(&thread, NULL, take_census, &ranks[1]) == 0);
  take_census(&ranks[0]);
  EXPECT(pthread_join(thread, NULL) == 0);
  EXPECT_OK(syncbn_batch_norm_new(C, handles[0], NULL, &layer));
  EXPECT_OK(syncbn_batch_norm_set_running_statistics(layer, ranks[0].mean, ranks[0].var,
                                                     ranks[0].count, NULL));
  for (int c = 0; c < C; ++c) {
    double mean, var;
    moments(all, N, c, &mean, &var);
    for (int r = 0; r < 2; ++r) {
      EXPECT(ranks[r].count == N * S);
      EXPECT(fabs(ranks[r].mean[c] - mean) < 1e-12 * (1 + fabs(mean)));
      EXPECT(fabs(ranks[r].var[c] - var) < 1e-8 * var);
    }
    EXPECT(syncbn_batch_norm_running_mean(layer)[c] == ranks[0].mean[c]);
    EXPECT(fabs(syncbn_batch_norm_running_var(layer)[c] - var * N * S / (N * S - 1)) < 1e-8 * var);
  }
  syncbn_batch_norm_free(layer);
  for (int r = 0; r < 2; ++r) syncbn_communicator_free(handles[r]);
}

static void population_refuses_misuse(void) {
  syncbn_population* population = NULL;
  syncbn_communicator* self = NULL;
  syncbn_batch_norm* layer = NULL;
  float data[SIZE] = {0};
  double values[C + 1] = {0}, count = 3;
  syncbn_tensor x = SYNCBN_TENSOR(data, SYNCBN_F32, SYNCBN_CHANNELS_FIRST, 1, C + 1, 1);
  EXPECT(syncbn_population_new(0, &population) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_population_new(C, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_population_new(C, &population));
  EXPECT(syncbn_population_add(population, &x, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "channels") != NULL);
  EXPECT(syncbn_population_add(NULL, &x, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_communicator_self(&self));
  EXPECT(syncbn_population_finish(population, NULL, values, values, &count) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_population_finish(population, self, values, values + 1, &count) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "overlap") != NULL);
  EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layer));
  double mean[C] = {0}, var[C] = {1, -1, 1};
  EXPECT(syncbn_batch_norm_set_running_statistics(layer, mean, var, count, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_set_running_statistics(layer, mean, NULL, count, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  const double one[C] = {1, 1, 1}, impossible[] = {-5, NAN, INFINITY};
  for (int i = 0; i < 3; ++i) {
    EXPECT(syncbn_batch_norm_set_running_statistics(layer, one, one, impossible[i], NULL) ==
           SYNCBN_INVALID_ARGUMENT);
    EXPECT(strstr(syncbn_last_error(), "count") != NULL);
  }
  EXPECT(syncbn_batch_norm_running_mean(layer)[0] == 0);
  EXPECT(syncbn_batch_norm_running_var(layer)[0] == 1);
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(self);
  syncbn_population_free(population);
  syncbn_population_free(NULL);
}

static void two_thread_ranks_normalize_as_one_batch(void) {
  syncbn_communicator* handles[2];
  struct rank ranks[2];
  pthread_t thread;
  float batch[2 * SIZE];
  for (int i = 0; i < 2 * SIZE; ++i) batch[i] = sample(i) + (i >= SIZE ? 3.0f : 0.0f);
  EXPECT_OK(syncbn_communicator_threads(2, WITHIN(30), handles));
  for (int r = 0; r < 2; ++r) {
    ranks[r].group = handles[r];
    memcpy(ranks[r].x, batch + r * SIZE, sizeof ranks[r].x);
    EXPECT(syncbn_communicator_rank(handles[r]) == r);
    EXPECT(syncbn_communicator_size(handles[r]) == 2);
  }
  EXPECT(pthread_create(&thread, NULL, act_as_rank, &ranks[1]) == 0);
  act_as_rank(&ranks[0]);
  EXPECT(pthread_join(thread, NULL) == 0);
  for (int c = 0; c < C; ++c) {
    double mean, var;
    moments(batch, 2 * N, c, &mean, &var);
    for (int i = 0; i < 2 * N; ++i) {
      for (int s = 0; s < S; ++s) {
        const int at = ((i % N) * C + c) * S + s;
        const double expected = (batch[(i * C + c) * S + s] - mean) / sqrt(var + 1e-5);
        EXPECT(fabs(ranks[i / N].y[at] - expected) < 2e-6);
      }
    }
  }
  for (int r = 0; r < 2; ++r) syncbn_communicator_free(handles[r]);
}

struct exact_rank {
  syncbn_communicator* group;
  float *x, *y;
  int64_t n;
};

static void* normalize_exactly(void* argument) {
  struct exact_rank* self = argument;
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  options.name = "exact";
  options.exact = 1;
  EXPECT_OK(syncbn_batch_norm_new(C, self->group, &options, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  syncbn_tensor x = tensor(self->x, self->n), y = tensor(self->y, self->n);
  for (int step = 0; step < 2; ++step) {
    EXPECT_OK(syncbn_batch_norm_forward(layer, &x, NULL, NULL, &y, record, NULL));
  }
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  return NULL;
}

static void exact_ranks_have_the_bits_of_one_process(void) {
  float x[SIZE], y[SIZE], whole[SIZE];
  enum { FIRST = C * S }; /* the first rank has one sample, the other the rest */
  syncbn_communicator *self = NULL, *handles[2];
  pthread_t thread;
  for (int i = 0; i < SIZE; ++i) x[i] = sample(i);
  EXPECT_OK(syncbn_communicator_self(&self));
  EXPECT_OK(syncbn_communicator_threads(2, WITHIN(30), handles));
  struct exact_rank one = {self, x, whole, N}, first = {handles[0], x, y, 1},
                    second = {handles[1], x + FIRST, y + FIRST, N - 1};
  normalize_exactly(&one);
  EXPECT(pthread_create(&thread, NULL, normalize_exactly, &second) == 0);
  normalize_exactly(&first);
  EXPECT(pthread_join(thread, NULL) == 0);
  EXPECT(memcmp(y, whole, sizeof y) == 0);
  for (int r = 0; r < 2; ++r) syncbn_communicator_free(handles[r]);
  syncbn_communicator_free(self);
}

static void layers_together_are_layers_one_by_one(void) {
  enum { LAYERS = 2 };
  syncbn_communicator* self = NULL;
  syncbn_batch_norm* layers[LAYERS];
  syncbn_forward_record* record[LAYERS];
  float x[SIZE], y[LAYERS][SIZE], dx[LAYERS][SIZE], one_y[SIZE], one_dx[SIZE];
  syncbn_tensor ty[LAYERS], tdx[LAYERS];
  syncbn_forward_call forwards[LAYERS];
  syncbn_backward_call backwards[LAYERS];
  for (int i = 0; i < SIZE; ++i) x[i] = sample(i);
  syncbn_tensor tx = tensor(x, N), tone_y = tensor(one_y, N), tone_dx = tensor(one_dx, N);
  EXPECT_OK(syncbn_communicator_self(&self));
  for (int k = 0; k < LAYERS; ++k) {
    EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layers[k]));
    EXPECT_OK(syncbn_forward_record_new(&record[k]));
    ty[k] = tensor(y[k], N);
    tdx[k] = tensor(dx[k], N);
    forwards[k] = (syncbn_forward_call){
        .size = sizeof forwards[k], .layer = layers[k], .x = &tx, .y = &ty[k], .record = record[k]};
    backwards[k] = (syncbn_backward_call){.size = sizeof backwards[k],
                                          .layer = layers[k],
                                          .record = record[k],
                                          .x = &tx,
                                          .dy = &tx,
                                          .dx = &tdx[k]};
  }
  EXPECT_OK(syncbn_forward_together(forwards, LAYERS));
  EXPECT_OK(syncbn_backward_together(backwards, LAYERS));
  EXPECT(syncbn_forward_together(NULL, 1) == SYNCBN_INVALID_ARGUMENT);
  forwards[1].layer = layers[0];
  EXPECT(syncbn_forward_together(forwards, LAYERS) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "given twice") != NULL);
  for (int k = 0; k < LAYERS; ++k) {
    syncbn_batch_norm* one = NULL;
    syncbn_forward_record* of_one = NULL;
    EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &one));
    EXPECT_OK(syncbn_forward_record_new(&of_one));
    EXPECT_OK(syncbn_batch_norm_forward(one, &tx, NULL, NULL, &tone_y, of_one, NULL));
    EXPECT_OK(syncbn_batch_norm_backward(one, of_one, &tx, NULL, &tx, NULL, &tone_dx, NULL, NULL));
    EXPECT(memcmp(y[k], one_y, sizeof one_y) == 0);
    EXPECT(memcmp(dx[k], one_dx, sizeof one_dx) == 0);
    syncbn_forward_record_free(of_one);
    syncbn_batch_norm_free(one);
    syncbn_forward_record_free(record[k]);
    syncbn_batch_norm_free(layers[k]);
  }
  syncbn_communicator_free(self);
}

static void the_phases_are_the_layer(void) {
  float x[SIZE], y[SIZE], dx[SIZE], layer_y[SIZE], layer_dx[SIZE];
  double pivot[C] = {0}, sums[2 * C + 1], mean[C], var[C], invstd[C], count;
  int again = 0;
  for (int i = 0; i < SIZE; ++i) x[i] = 1e4f + sample(i);
  syncbn_tensor tx = tensor(x, N), ty = tensor(y, N), tdx = tensor(dx, N);
  syncbn_tensor tlayer_y = tensor(layer_y, N), tlayer_dx = tensor(layer_dx, N);

  EXPECT(syncbn_sums_length(C) == 2 * C + 1);
  EXPECT_OK(syncbn_forward_sums(&tx, NULL, pivot, sums, NULL));
  EXPECT_OK(syncbn_move_far_pivots(C, sums, pivot, 1e-5, SYNCBN_F32, 0, &again));
  EXPECT(again == 1); /* a mean of 1e4 is far from a pivot of 0 */
  EXPECT_OK(syncbn_forward_sums(&tx, NULL, pivot, sums, NULL));
  EXPECT_OK(syncbn_move_far_pivots(C, sums, pivot, 1e-5, SYNCBN_F32, 1, &again));
  EXPECT(again == 0);
  EXPECT_OK(syncbn_finalize(C, sums, pivot, 1e-5, mean, var, invstd, &count));
  EXPECT(count == N * S);
  syncbn_pass pass = SYNCBN_PASS_INIT;
  pass.mean = mean;
  pass.invstd = invstd;
  pass.negative_slope = 0;
  EXPECT_OK(syncbn_normalize(&tx, &pass, &ty, NULL));
  pass.dy = &ty;
  EXPECT_OK(syncbn_backward_sums(&tx, &pass, sums, NULL));
  EXPECT_OK(syncbn_input_gradient(&tx, &pass, sums, &tdx, NULL, NULL));

  syncbn_communicator* self = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  options.negative_slope = 0;
  EXPECT_OK(syncbn_communicator_self(&self));
  EXPECT_OK(syncbn_batch_norm_new(C, self, &options, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  EXPECT_OK(syncbn_batch_norm_forward(layer, &tx, NULL, NULL, &tlayer_y, record, NULL));
  EXPECT_OK(syncbn_batch_norm_backward(layer, record, &tx, NULL, &tlayer_y, NULL, &tlayer_dx, NULL,
                                       NULL));
  EXPECT(memcmp(y, layer_y, sizeof y) == 0);
  EXPECT(memcmp(dx, layer_dx, sizeof dx) == 0);
  EXPECT(syncbn_batch_norm_pivot_retries(layer) == 1);
  EXPECT(*syncbn_batch_norm_num_batches_tracked(layer) == 1);
  EXPECT(syncbn_batch_norm_bias_grad(layer)[0] > 0);
  EXPECT_OK(syncbn_batch_norm_zero_grad(layer, NULL));
  EXPECT(syncbn_batch_norm_bias_grad(layer)[0] == 0);
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(self);
}

static int failing_all_reduce(double* data, size_t count, void* user) {
  (void)data;
  (void)count;
  return *(int*)user;
}

static void errors_have_a_code_and_a_message(void) {
  float x[SIZE] = {0};
  int code = 7;
  double value = 1;
  syncbn_communicator *self = NULL, *custom = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  syncbn_tensor good = tensor(x, N), bad = tensor(x, N), null_data = tensor(NULL, N);
  bad.dtype = 99;

  EXPECT(syncbn_communicator_self(NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_communicator_self(&self));
  EXPECT(syncbn_batch_norm_new(0, self, NULL, &layer) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(layer == NULL && strstr(syncbn_last_error(), "0 channels") != NULL);
  EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  EXPECT(syncbn_batch_norm_forward(layer, &bad, NULL, NULL, &good, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "99 is no syncbn_dtype") != NULL);
  EXPECT(syncbn_batch_norm_forward(layer, &null_data, NULL, NULL, &good, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_forward(layer, NULL, NULL, NULL, &good, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_backward(layer, record, &good, NULL, &good, NULL, &good, NULL, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_backward(layer, record, &good, &good, &good, NULL, &good, NULL, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_load(layer, "/nonexistent/file", NULL) == SYNCBN_FILE_ERROR);
  EXPECT(syncbn_batch_norm_load(NULL, "file", NULL) == SYNCBN_INVALID_ARGUMENT);

  EXPECT_OK(syncbn_communicator_custom(0, 2, failing_all_reduce, &code, &custom));
  EXPECT(syncbn_communicator_all_reduce(custom, &value, 1) == SYNCBN_COMM_ERROR);
  EXPECT(strstr(syncbn_last_error(), "returned 7") != NULL);
  EXPECT(syncbn_communicator_threads(2, WITHIN(-1), &custom) == SYNCBN_INVALID_ARGUMENT);

  syncbn_communicator_free(custom);
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(self);
  syncbn_communicator_free(NULL);
  syncbn_batch_norm_free(NULL);
  syncbn_forward_record_free(NULL);
}

static void layers_work_in_place(void) {
  float x[SIZE], y[SIZE], dx[SIZE], expected_y[SIZE], expected_dx[SIZE];
  syncbn_communicator* self = NULL;
  syncbn_batch_norm *layer = NULL, *plain = NULL;
  syncbn_forward_record *record = NULL, *of_plain = NULL;
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  options.negative_slope = 0.25;
  for (int i = 0; i < SIZE; ++i) y[i] = x[i] = sample(i);
  syncbn_tensor tx = tensor(x, N), ty = tensor(y, N), tdx = tensor(dx, N);
  syncbn_tensor texpected_y = tensor(expected_y, N), texpected_dx = tensor(expected_dx, N);
  EXPECT_OK(syncbn_communicator_self(&self));
  EXPECT_OK(syncbn_batch_norm_new(C, self, &options, &layer));
  EXPECT_OK(syncbn_batch_norm_new(C, self, &options, &plain));
  EXPECT_OK(syncbn_forward_record_new(&record));
  EXPECT_OK(syncbn_forward_record_new(&of_plain));
  EXPECT_OK(syncbn_batch_norm_forward(plain, &tx, NULL, NULL, &texpected_y, of_plain, NULL));
  EXPECT_OK(
      syncbn_batch_norm_backward(plain, of_plain, &tx, NULL, &tx, NULL, &texpected_dx, NULL, NULL));
  EXPECT_OK(syncbn_batch_norm_forward_in_place(layer, &ty, NULL, record, NULL));
  EXPECT(memcmp(y, expected_y, sizeof y) == 0);
  EXPECT_OK(syncbn_batch_norm_backward_in_place(layer, record, &ty, &tx, NULL, &tdx, NULL));
  /* The input is recovered from y, which is rounded to float, as is dx: a few units of 2^-24. */
  for (int i = 0; i < SIZE; ++i) EXPECT(fabs(dx[i] - expected_dx[i]) < 1e-5);
  EXPECT(fabs(syncbn_batch_norm_weight_grad(layer)[0] - syncbn_batch_norm_weight_grad(plain)[0]) <
         1e-4);

  EXPECT(syncbn_batch_norm_forward_in_place(NULL, &ty, NULL, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_forward_in_place(layer, NULL, NULL, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_forward_in_place(layer, &ty, NULL, NULL, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_backward_in_place(NULL, record, &ty, &tx, NULL, &tdx, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_backward_in_place(layer, of_plain, &ty, &tx, NULL, &tdx, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  options.negative_slope = 0; /* what ReLU took away cannot be recovered */
  syncbn_batch_norm_free(layer);
  EXPECT_OK(syncbn_batch_norm_new(C, self, &options, &layer));
  EXPECT(syncbn_batch_norm_forward_in_place(layer, &ty, NULL, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  syncbn_forward_record_free(of_plain);
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(plain);
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(self);
}

struct summing_rank {
  syncbn_communicator* group;
  int64_t samples;
  double one[2], two[3];
  int size_of_part;
};

/* Two sums under way at once, finished in the other order; then groups by samples. */
static void* sum_and_split(void* argument) {
  struct summing_rank* self = argument;
  syncbn_pending first, second;
  syncbn_communicator* part = NULL;
  EXPECT_OK(syncbn_communicator_start(self->group, self->one, 2, &first));
  EXPECT_OK(syncbn_communicator_start(self->group, self->two, 3, &second));
  EXPECT_OK(syncbn_communicator_finish(self->group, &second));
  EXPECT_OK(syncbn_communicator_finish(self->group, &first));
  EXPECT(syncbn_communicator_finish(self->group, &first) == SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_communicator_split_by_samples(self->group, self->samples, 8, &part));
  self->size_of_part = syncbn_communicator_size(part);
  syncbn_communicator_free(part);
  return NULL;
}

static void sums_are_started_and_finished_and_groups_split_by_samples(void) {
  enum { RANKS = 3 };
  syncbn_communicator* handles[RANKS];
  struct summing_rank ranks[RANKS];
  pthread_t threads[RANKS];
  EXPECT_OK(syncbn_communicator_threads(RANKS, WITHIN(30), handles));
  for (int r = 0; r < RANKS; ++r) {
    const struct summing_rank rank = {handles[r], r == 2 ? 8 : 4, {r, 1}, {10 * r, 2, 3}, 0};
    ranks[r] = rank;
    EXPECT(pthread_create(&threads[r], NULL, sum_and_split, &ranks[r]) == 0);
  }
  for (int r = 0; r < RANKS; ++r) EXPECT(pthread_join(threads[r], NULL) == 0);
  for (int r = 0; r < RANKS; ++r) {
    EXPECT(ranks[r].one[0] == 3 && ranks[r].one[1] == 3);
    EXPECT(ranks[r].two[0] == 30 && ranks[r].two[1] == 6 && ranks[r].two[2] == 9);
    EXPECT(ranks[r].size_of_part == (r == 2 ? 1 : 2)); /* 4 + 4 samples, and 8 */
  }
  double value[2] = {0};
  syncbn_pending pending;
  syncbn_communicator* part = NULL;
  EXPECT(syncbn_communicator_start(NULL, value, 1, &pending) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_communicator_start(handles[0], NULL, 1, &pending) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_communicator_start(handles[0], value, 1, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_communicator_start(handles[0], value, SIZE_MAX, &pending) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_communicator_all_reduce(handles[0], (double*)((char*)value + 4), 1) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_communicator_finish(handles[0], NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_communicator_finish(NULL, &pending) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_communicator_split_by_samples(NULL, 1, 1, &part) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_communicator_split_by_samples(handles[0], 1, 1, NULL) == SYNCBN_INVALID_ARGUMENT);
  for (int r = 0; r < RANKS; ++r) syncbn_communicator_free(handles[r]);
}

struct reports {
  pthread_mutex_t mutex;
  int count;
  char last[256];
};

static void keep_report(const char* line, void* user) {
  struct reports* reports = user;
  pthread_mutex_lock(&reports->mutex);
  ++reports->count;
  snprintf(reports->last, sizeof reports->last, "%s", line);
  pthread_mutex_unlock(&reports->mutex);
}

/* One of two ranks does not come: that is reported, and the flight record lies in the directory. */
static void a_communicator_tells_what_it_has_exchanged(void) {
  syncbn_communicator* handles[2];
  syncbn_pending pending[2];
  syncbn_counters counters = SYNCBN_COUNTERS_INIT, wrong = SYNCBN_COUNTERS_INIT;
  double values[2][3] = {{1, 2, 3}, {4, 5, 6}};
  char record[4096], cut[8];
  size_t length = 0, same = 0;
  EXPECT_OK(syncbn_communicator_threads(2, NULL, handles));
  for (int r = 0; r < 2; ++r) {
    EXPECT_OK(syncbn_communicator_start(handles[r], values[r], 3, &pending[r]));
  }
  for (int r = 0; r < 2; ++r) EXPECT_OK(syncbn_communicator_finish(handles[r], &pending[r]));
  EXPECT_OK(syncbn_communicator_counters(handles[0], &counters));
  EXPECT(counters.exchanges == 1 && counters.bytes == sizeof values[0] && counters.seconds >= 0);
  wrong.size = 3;
  EXPECT(syncbn_communicator_counters(handles[0], &wrong) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_communicator_counters(NULL, &counters) == SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_communicator_flight_record(handles[0], NULL, 0, &length));
  EXPECT(length > 0 && length < sizeof record);
  EXPECT_OK(syncbn_communicator_flight_record(handles[0], record, sizeof record, &same));
  EXPECT(strlen(record) == same && strstr(record, "all_reduce") != NULL);
  EXPECT_OK(syncbn_communicator_flight_record(handles[0], cut, sizeof cut, &same));
  EXPECT(strlen(cut) == sizeof cut - 1 && strncmp(cut, record, sizeof cut - 1) == 0);
  EXPECT(syncbn_communicator_flight_record(handles[0], NULL, 1, &length) ==
         SYNCBN_INVALID_ARGUMENT);
  for (int r = 0; r < 2; ++r) syncbn_communicator_free(handles[r]);
}

static void a_missing_rank_is_reported_and_recorded(void) {
  static const char* const directory = "capi_test_flight_records";
  struct reports reports = {.mutex = PTHREAD_MUTEX_INITIALIZER};
  syncbn_communicator* handles[2];
  double value = 1;
  char record[512];
  syncbn_communicator_options options = SYNCBN_COMMUNICATOR_OPTIONS_INIT;
  options.timeout_seconds = 3;
  options.report_seconds = 0.05;
  if (access(directory, F_OK) == 0) { /* left by a run that failed */
    remove_files_of(directory, record, sizeof record);
  }
  EXPECT_OK(syncbn_set_flight_record_directory(directory));
  syncbn_set_report_handler(keep_report, &reports);
  EXPECT_OK(syncbn_communicator_threads(2, &options, handles));
  EXPECT(syncbn_communicator_all_reduce(handles[0], &value, 1) == SYNCBN_COMM_ERROR);
  EXPECT(strstr(syncbn_last_error(), "rank 1") != NULL);
  EXPECT(reports.count > 0 && strstr(reports.last, "rank 1") != NULL);
  EXPECT(remove_files_of(directory, record, sizeof record) == 1);
  EXPECT(strstr(record, "\"failure\"") != NULL);

  syncbn_set_report_handler(NULL, NULL);
  EXPECT_OK(syncbn_set_flight_record_directory(NULL));
  const int before = reports.count;
  for (int r = 0; r < 2; ++r) syncbn_communicator_free(handles[r]);
  options.timeout_seconds = 0.2;
  EXPECT_OK(syncbn_communicator_threads(2, &options, handles));
  EXPECT(syncbn_communicator_all_reduce(handles[0], &value, 1) == SYNCBN_COMM_ERROR);
  EXPECT(reports.count == before);
  EXPECT(remove_files_of(directory, record, sizeof record) == 0);
  EXPECT(rmdir(directory) == 0);
  for (int r = 0; r < 2; ++r) syncbn_communicator_free(handles[r]);
}

static void devices_need_a_build_for_them(void) {
  syncbn_communicator* self = NULL;
  syncbn_device_communicator* of_device = NULL;
  EXPECT_OK(syncbn_communicator_self(&self));
#ifndef WITH_CUDA
  EXPECT(syncbn_device_communicator_self(&of_device) == SYNCBN_NOT_CONFIGURED);
  EXPECT(strstr(syncbn_last_error(), "SYNCBN_CUDA=ON") != NULL);
  EXPECT(syncbn_device_communicator_staged(self, WITHIN(30), &of_device) == SYNCBN_NOT_CONFIGURED);
#endif
#ifndef WITH_NCCL
  EXPECT(syncbn_device_communicator_nccl(self, WITHIN(30), &of_device) == SYNCBN_NOT_CONFIGURED);
#endif
  EXPECT(syncbn_device_communicator_staged(self, WITHIN(-1), &of_device) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(of_device == NULL);
  syncbn_communicator_free(self);
}

int main(void) {
  EXPECT(strlen(syncbn_version()) >= 5);
  EXPECT(strcmp(syncbn_last_error(), "") == 0);
  two_thread_ranks_normalize_as_one_batch();
  ranks_share_memory_over_another_group();
  exact_ranks_have_the_bits_of_one_process();
  layers_together_are_layers_one_by_one();
  the_phases_are_the_layer();
  errors_have_a_code_and_a_message();
  layers_work_in_place();
  population_is_that_of_all_ranks();
  population_refuses_misuse();
  sums_are_started_and_finished_and_groups_split_by_samples();
  a_missing_rank_is_reported_and_recorded();
  a_communicator_tells_what_it_has_exchanged();
  devices_need_a_build_for_them();
  puts("passed");
  return 0;
}
