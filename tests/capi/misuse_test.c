/* SPDX-License-Identifier: Apache-2.0 */

/* What the C interface refuses, and what it leaves as it was. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "syncbn/c/device.h"

#include "capi/expect.h"
#include "capi/small_tensor.h"

static void no_handle_is_no_crash(void) {
  EXPECT(syncbn_communicator_rank(NULL) == -1);
  EXPECT(strcmp(syncbn_last_error(), "group is NULL") == 0);
  EXPECT(syncbn_communicator_size(NULL) == 0);
  EXPECT(syncbn_batch_norm_weight(NULL) == NULL);
  EXPECT(strcmp(syncbn_last_error(), "layer is NULL") == 0);
  EXPECT(syncbn_batch_norm_bias(NULL) == NULL);
  EXPECT(syncbn_batch_norm_weight_grad(NULL) == NULL);
  EXPECT(syncbn_batch_norm_bias_grad(NULL) == NULL);
  EXPECT(syncbn_batch_norm_running_mean(NULL) == NULL);
  EXPECT(syncbn_batch_norm_running_var(NULL) == NULL);
  EXPECT(syncbn_batch_norm_num_batches_tracked(NULL) == NULL);
  EXPECT(syncbn_batch_norm_pivot_retries(NULL) == 0);
  syncbn_batch_norm_zero_grad(NULL, NULL);
  EXPECT(syncbn_device_communicator_rank(NULL) == -1);
  EXPECT(syncbn_device_communicator_size(NULL) == 0);
  EXPECT(syncbn_forward_record_mean(NULL) == NULL);
  EXPECT(syncbn_forward_record_var(NULL) == NULL);
  EXPECT(syncbn_forward_record_invstd(NULL) == NULL);
  EXPECT(syncbn_batch_norm_weight(NULL) == NULL);
  EXPECT(syncbn_batch_norm_bias(NULL) == NULL);
  EXPECT(syncbn_batch_norm_weight_grad(NULL) == NULL);
  EXPECT(syncbn_batch_norm_bias_grad(NULL) == NULL);
  EXPECT(syncbn_batch_norm_running_mean(NULL) == NULL);
  EXPECT(syncbn_batch_norm_running_var(NULL) == NULL);
  EXPECT(syncbn_batch_norm_num_batches_tracked(NULL) == NULL);
  EXPECT(syncbn_batch_norm_zero_grad(NULL, NULL) == SYNCBN_INVALID_ARGUMENT);
  syncbn_batch_norm_free(NULL);
  syncbn_device_communicator_free(NULL);
  syncbn_forward_record_free(NULL);
}

static void memory_that_overlaps_or_is_not_aligned_is_refused(void) {
  float data[2 * SIZE] = {0};
  double mean[C], var[C], invstd[C], sums[2 * C + 1] = {0}, count;
  double pivot[C] = {0};
  syncbn_communicator* self = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  syncbn_tensor x = tensor(data, N), shifted = tensor(data + 4, N), odd = tensor(data, 1);
  odd.data = (char*)data + 2;
  sums[2 * C] = 1;
  EXPECT_OK(syncbn_communicator_self(&self));
  EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  EXPECT(syncbn_batch_norm_forward(layer, &x, NULL, NULL, &shifted, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "y overlaps x") != NULL);
  EXPECT(syncbn_batch_norm_infer(layer, &x, NULL, NULL, &shifted, NULL, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_infer(layer, &x, NULL, NULL, &shifted, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_batch_norm_forward(layer, &odd, NULL, NULL, &odd, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "x: ") != NULL && strstr(syncbn_last_error(), "multiple"));
  EXPECT(syncbn_batch_norm_forward(layer, &x, NULL, (float*)odd.data, &x, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  syncbn_pass pass = SYNCBN_PASS_INIT;
  pass.mean = sums;
  pass.invstd = sums;
  EXPECT(syncbn_normalize(&x, &pass, &shifted, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_normalize(&x, NULL, &x, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_forward_sums(&x, NULL, (double*)odd.data, sums, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_finalize(C, sums, pivot, 1e-5, mean, var, mean + 1, &count) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_finalize(C, sums, pivot, 1e-5, sums, var, invstd, &count) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_finalize(C, sums, pivot, 1e-5, mean, var, invstd, &count));
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(self);
}

static void sizes_that_cannot_be_are_refused(void) {
  float y[1];
  double pivot[C] = {0}, sums[2 * C + 1], mean[C], count;
  syncbn_communicator* self = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_forward_record* record = NULL;
  syncbn_tensor large = tensor(y, 0);
  EXPECT_OK(syncbn_communicator_self(&self));
  EXPECT(syncbn_batch_norm_new(INT64_MAX, self, NULL, &layer) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "9223372036854775807 channels") != NULL);
  EXPECT(syncbn_batch_norm_new(((int64_t)1 << 40) + 1, self, NULL, &layer) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT_OK(syncbn_batch_norm_new(C, self, NULL, &layer));
  EXPECT_OK(syncbn_forward_record_new(&record));
  large.s = (int64_t)1 << 62;
  EXPECT(syncbn_batch_norm_forward(layer, &large, NULL, NULL, &large, record, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_forward_sums(&large, NULL, pivot, sums, NULL) == SYNCBN_INVALID_ARGUMENT);
  large = tensor(y, 0);
  large.c = INT64_MAX;
  EXPECT(syncbn_forward_sums(&large, NULL, pivot, sums, NULL) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(syncbn_sums_length(INT64_MAX) == 0);
  EXPECT(syncbn_finalize(INT64_MAX, sums, pivot, 0, mean, mean, mean, &count) ==
         SYNCBN_INVALID_ARGUMENT);
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(self);
}

static void options_that_cannot_be_are_refused(void) {
  syncbn_communicator* self = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  EXPECT(options.compare_parameters == 1);
  EXPECT_OK(syncbn_communicator_self(&self));
  static const double momenta[] = {-0.1, -2, 1.5, -INFINITY, INFINITY, NAN};
  for (size_t i = 0; i < sizeof momenta / sizeof *momenta; ++i) {
    options.momentum = momenta[i];
    EXPECT(syncbn_batch_norm_new(C, self, &options, &layer) == SYNCBN_INVALID_ARGUMENT);
    EXPECT(strstr(syncbn_last_error(), "momentum = ") != NULL);
  }
  options.momentum = SYNCBN_AVERAGE_OF_ALL_BATCHES;
  EXPECT_OK(syncbn_batch_norm_new(C, self, &options, &layer));
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(self);
}

static void an_eps_that_cannot_be_moves_no_pivot(void) {
  const double sums[3] = {1e6, 1e12, 1}; /* the mean is far from a pivot of 0 */
  static const double refused[] = {-1, -INFINITY, INFINITY, NAN};
  double mean, var, invstd, count;
  for (size_t i = 0; i < sizeof refused / sizeof *refused; ++i) {
    double pivot = 0;
    int any = 7;
    EXPECT(syncbn_move_far_pivots(1, sums, &pivot, refused[i], SYNCBN_F32, 0, &any) ==
           SYNCBN_INVALID_ARGUMENT);
    EXPECT(syncbn_finalize(1, sums, &pivot, refused[i], &mean, &var, &invstd, &count) ==
           SYNCBN_INVALID_ARGUMENT);
    EXPECT(pivot == 0 && any == 7);
  }
}

static void what_another_layer_of_the_name_saved_is_refused(void) {
  float x[SIZE] = {0}, dx[SIZE];
  syncbn_communicator* self = NULL;
  syncbn_batch_norm *one = NULL, *two = NULL;
  syncbn_forward_record* record = NULL;
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  syncbn_tensor tx = tensor(x, N), tdx = tensor(dx, N);
  options.name = "bn";
  EXPECT_OK(syncbn_communicator_self(&self));
  EXPECT_OK(syncbn_batch_norm_new(C, self, &options, &one));
  EXPECT_OK(syncbn_batch_norm_new(C, self, &options, &two));
  EXPECT_OK(syncbn_forward_record_new(&record));
  EXPECT_OK(syncbn_batch_norm_forward(one, &tx, NULL, NULL, &tx, record, NULL));
  EXPECT(syncbn_batch_norm_backward(two, record, &tx, NULL, &tx, NULL, &tdx, NULL, NULL) ==
         SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "another layer of that name") != NULL);
  syncbn_forward_record_free(record);
  syncbn_batch_norm_free(two);
  syncbn_batch_norm_free(one);
  syncbn_communicator_free(self);
}

static void errors_are_utf8_whatever_names_are(void) {
  syncbn_communicator* self = NULL;
  syncbn_batch_norm* layer = NULL;
  syncbn_options options = SYNCBN_OPTIONS_INIT;
  options.name = "caf\xe9 \xc3\xa9"; /* Latin-1, then UTF-8 */
  EXPECT_OK(syncbn_communicator_self(&self));
  EXPECT(syncbn_batch_norm_new(0, self, &options, &layer) == SYNCBN_INVALID_ARGUMENT);
  EXPECT(strstr(syncbn_last_error(), "layer 'caf\xef\xbf\xbd \xc3\xa9'") != NULL);
  EXPECT_OK(syncbn_batch_norm_new(C, self, &options, &layer));
  EXPECT(syncbn_batch_norm_load(layer, "/nonexistent/\xff", NULL) == SYNCBN_FILE_ERROR);
  EXPECT(strstr(syncbn_last_error(), "/nonexistent/\xef\xbf\xbd") != NULL);
  syncbn_batch_norm_free(layer);
  syncbn_communicator_free(self);
}

int main(void) {
  no_handle_is_no_crash();
  memory_that_overlaps_or_is_not_aligned_is_refused();
  sizes_that_cannot_be_are_refused();
  options_that_cannot_be_are_refused();
  an_eps_that_cannot_be_moves_no_pivot();
  what_another_layer_of_the_name_saved_is_refused();
  errors_are_utf8_whatever_names_are();
  puts("passed");
  return 0;
}
