/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_C_SYNCBN_H
#define SYNCBN_C_SYNCBN_H

/*
 * C ABI of syncbn: the layer and the phases of syncbn/batch_norm.hpp and syncbn/phases.hpp, whose
 * documentation holds here too.
 *
 * Every call that can fail returns a status; on failure syncbn_last_error() says what happened, in
 * the calling thread, until its next failing call. Handles that a function gives out are released
 * by their _free function, which takes NULL. A call that fails gives out no handle. Nothing is
 * printed and nothing exits.
 *
 * A handle that is NULL is refused: a function that returns a status gives SYNCBN_INVALID_ARGUMENT,
 * one that returns a pointer NULL, one that returns a count or a size 0, a rank -1, and one that
 * returns nothing does nothing; syncbn_last_error() says which argument it was.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum syncbn_status {
  SYNCBN_OK = 0,
  SYNCBN_INVALID_ARGUMENT = 1, /* wrong shape, a pointer that is NULL, not aligned or into memory
                                  that overlaps, value out of range; nothing changed */
  SYNCBN_NOT_CONFIGURED = 2,   /* the object or build was not set up for this; nothing changed */
  SYNCBN_FILE_ERROR = 3,       /* a file cannot be read, written or understood; nothing changed */
  SYNCBN_COMM_ERROR = 4,       /* a collective failed; the communicator is unusable */
  SYNCBN_INTERNAL_ERROR = 5,   /* anything else: out of memory, a defect */
  SYNCBN_DEVICE_ERROR = 6      /* a CUDA device failed, or cannot do what it was asked for */
} syncbn_status;

/* Choices are plain ints, so that any value can be passed, and refused. */
typedef int syncbn_dtype;
enum { SYNCBN_F32 = 0, SYNCBN_F64 = 1, SYNCBN_F16 = 2, SYNCBN_BF16 = 3 };

typedef int syncbn_layout;
enum {
  SYNCBN_CHANNELS_FIRST = 0, /* [N, C, S] */
  SYNCBN_CHANNELS_LAST = 1   /* [N, S, C] */
};

typedef int syncbn_backend;
enum { SYNCBN_CPU = 0, SYNCBN_REFERENCE = 1 };

/* View of a dense tensor: n samples, c channels, s = product of the spatial sizes (1 for none).
 * n = 0 is an empty shard. The memory stays the caller's. */
typedef struct syncbn_tensor {
  void* data;
  syncbn_dtype dtype;
  syncbn_layout layout;
  int64_t n;
  int64_t c;
  int64_t s;
} syncbn_tensor;

typedef struct syncbn_communicator syncbn_communicator;
typedef struct syncbn_batch_norm syncbn_batch_norm;
typedef struct syncbn_saved syncbn_saved;

/* "major.minor.patch". */
const char* syncbn_version(void);
/* Why the calling thread's last failing call failed, in UTF-8 (a name that is none has U+FFFD in
 * place of what is not); "" before any. Valid until its next. */
const char* syncbn_last_error(void);

/* --- communicators ------------------------------------------------------------------------- */

/* Called with a line of UTF-8, from the thread that waits, when a rank is missing for
 * SYNCBN_REPORT_AFTER seconds (environment, 10 unless set), and when it came after all (but for
 * sums on a device's stream). NULL: no reports, as at first. */
typedef void (*syncbn_report_handler)(const char* line, void* user);
void syncbn_set_report_handler(syncbn_report_handler handler, void* user);
/* Where ranks write their last thousand exchanges when one fails; NULL or "": nowhere. At first
 * what SYNCBN_FLIGHT_RECORD in the environment names. */
syncbn_status syncbn_set_flight_record_directory(const char* directory);

/* A group of one rank. For MPI see syncbn/c/mpi.h. */
syncbn_status syncbn_communicator_self(syncbn_communicator** out);

/* `ranks` handles, written to out[0..ranks), one for each thread that acts as a rank. */
syncbn_status syncbn_communicator_threads(int ranks, double timeout_seconds,
                                          syncbn_communicator** out);

/* Sums data[0..count) over all ranks in place, the same bits on every rank; returns 0, or another
 * number if it failed. */
typedef int (*syncbn_all_reduce)(double* data, size_t count, void* user);

/* Any other collective library, through its all-reduce. */
syncbn_status syncbn_communicator_custom(int rank, int size, syncbn_all_reduce all_reduce,
                                         void* user, syncbn_communicator** out);

/* Collective. The sub-group of the ranks that gave the same color. */
syncbn_status syncbn_communicator_split(const syncbn_communicator* group, int color,
                                        syncbn_communicator** out);
/* Collective. Sub-groups of consecutive ranks with at least `samples` samples each, of which this
 * rank has `mine`. See Communicator::split_by_samples. */
syncbn_status syncbn_communicator_split_by_samples(const syncbn_communicator* group, int64_t mine,
                                                   int64_t samples, syncbn_communicator** out);
/* Collective. Sums data[0..count) over the ranks in place. */
syncbn_status syncbn_communicator_all_reduce(const syncbn_communicator* group, double* data,
                                             size_t count);
/* A sum under way; means something to the rank that got it only. */
typedef struct syncbn_pending {
  uint64_t ticket;
  int64_t sequence;
  uint64_t count;
  int64_t time;
} syncbn_pending;

/* Collective. Begins such a sum and does not wait. data stay in place, untouched, until it is
 * finished. Several may be under way; all ranks start them in the same order. */
syncbn_status syncbn_communicator_start(const syncbn_communicator* group, double* data,
                                        size_t count, syncbn_pending* out);
/* Collective. Waits until the data hold the sum. Each once, in any order. */
syncbn_status syncbn_communicator_finish(const syncbn_communicator* group,
                                         const syncbn_pending* pending);
/* Its number, from 0 on. */
int syncbn_communicator_rank(const syncbn_communicator* group);
int syncbn_communicator_size(const syncbn_communicator* group);
/* Layers made from it keep the group alive. */
void syncbn_communicator_free(syncbn_communicator* group);

/* --- the layer ------------------------------------------------------------------------------ */

/* The momentum with which running statistics are the average of all batches. */
enum { SYNCBN_AVERAGE_OF_ALL_BATCHES = -1 };

typedef struct syncbn_options {
  const char* name;              /* names the layer in messages; equal on every rank. "": counted */
  double eps;                    /* 1e-5; finite, at least 0 */
  double momentum;               /* 0.1; 0 to 1, or SYNCBN_AVERAGE_OF_ALL_BATCHES */
  int affine;                    /* 1 */
  int track_running_stats;       /* 1 */
  double negative_slope;         /* 1: no activation; 0: ReLU; between: leaky ReLU */
  int group_parameter_gradients; /* 0: a rank's own share; 1: the group's sum */
  int64_t channel_blocks;        /* 0: blocks of channels as suit the cache; see BatchNormOptions */
  int exact;                     /* 0; 1: the same bits for any ranks; see Reproducibility */
  syncbn_backend backend;        /* SYNCBN_CPU */
  int compare_parameters;        /* 1: ranks compare gamma and beta; 0: they may differ */
} syncbn_options;

/* The values in the comments above, and the name "". */
syncbn_options syncbn_default_options(void);

/* `options` may be NULL for the defaults. channels: 1 to 2^40. */
syncbn_status syncbn_batch_norm_new(int64_t channels, const syncbn_communicator* group,
                                    const syncbn_options* options, syncbn_batch_norm** out);
void syncbn_batch_norm_free(syncbn_batch_norm* layer);

/* What a backward needs of its forward. One for each forward that waits for its backward. */
syncbn_status syncbn_saved_new(syncbn_saved** out);
void syncbn_saved_free(syncbn_saved* saved);

/* Weights of positions: [N, S] floats, 0 for padding; NULL for none. See syncbn/phases.hpp. */

/* Collective. y = activation(normalized x [+ residual]). residual may be NULL. y may be x or
 * residual. */
syncbn_status syncbn_batch_norm_forward(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                        const syncbn_tensor* residual, const float* weight,
                                        const syncbn_tensor* y, syncbn_saved* saved);

/* Collective. Writes dx, adds to the parameter gradients. y and dresidual go together: both for a
 * forward with a residual, both NULL for one without. dx or dresidual may be dy. */
syncbn_status syncbn_batch_norm_backward(syncbn_batch_norm* layer, const syncbn_saved* saved,
                                         const syncbn_tensor* x, const syncbn_tensor* y,
                                         const syncbn_tensor* dy, const float* weight,
                                         const syncbn_tensor* dx, const syncbn_tensor* dresidual);

/* The arguments of one of several forwards or backwards. */
typedef struct syncbn_forward_call {
  syncbn_batch_norm* layer;
  const syncbn_tensor* x;
  const syncbn_tensor* residual;
  const float* weight;
  const syncbn_tensor* y;
  syncbn_saved* saved;
} syncbn_forward_call;
typedef struct syncbn_backward_call {
  syncbn_batch_norm* layer;
  const syncbn_saved* saved;
  const syncbn_tensor* x;
  const syncbn_tensor* y;
  const syncbn_tensor* dy;
  const float* weight;
  const syncbn_tensor* dx;
  const syncbn_tensor* dresidual;
} syncbn_backward_call;

/* Collective. `count` layers of one communicator that are ready at the same time, with one message
 * for all. Each layer and each `saved` once; the same layers in the same order on every rank. */
syncbn_status syncbn_forward_together(const syncbn_forward_call* calls, size_t count);
syncbn_status syncbn_backward_together(const syncbn_backward_call* calls, size_t count);

/* Collective. x becomes y, from which the backward recovers it: one tensor is kept instead of two.
 * For layers whose negative_slope is above 0 and whose gamma is nowhere 0. */
syncbn_status syncbn_batch_norm_forward_in_place(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                                 const float* weight, syncbn_saved* saved);
/* Collective. y is what the forward left. dx may be dy. */
syncbn_status syncbn_batch_norm_backward_in_place(syncbn_batch_norm* layer,
                                                  const syncbn_saved* saved, const syncbn_tensor* y,
                                                  const syncbn_tensor* dy, const float* weight,
                                                  const syncbn_tensor* dx);

/* Local: with the running statistics. Collective without track_running_stats. `saved`: NULL, or
 * filled for a backward through these statistics, which stay as they are (frozen batch norm); then
 * SYNCBN_NOT_CONFIGURED without track_running_stats. */
syncbn_status syncbn_batch_norm_infer(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                      const syncbn_tensor* residual, const float* weight,
                                      const syncbn_tensor* y, syncbn_saved* saved);

/* Parameters, gradients and running statistics: [C] doubles of the layer's, to read and write; NULL
 * where the options left them out. Valid until the layer is freed. */
double* syncbn_batch_norm_weight(syncbn_batch_norm* layer);
double* syncbn_batch_norm_bias(syncbn_batch_norm* layer);
double* syncbn_batch_norm_weight_grad(syncbn_batch_norm* layer);
double* syncbn_batch_norm_bias_grad(syncbn_batch_norm* layer);
double* syncbn_batch_norm_running_mean(syncbn_batch_norm* layer);
double* syncbn_batch_norm_running_var(syncbn_batch_norm* layer);
int64_t syncbn_batch_norm_num_batches_tracked(const syncbn_batch_norm* layer);
/* Forwards that had to take their sums twice, because the running mean was far from the batch's. */
int64_t syncbn_batch_norm_pivot_retries(const syncbn_batch_norm* layer);
void syncbn_batch_norm_zero_grad(syncbn_batch_norm* layer);

/* Local. A safetensors file with PyTorch's names, of this layer alone; written atomically. A layer
 * with values that are not finite is not saved: SYNCBN_FILE_ERROR, and the old file stays. */
syncbn_status syncbn_batch_norm_save(const syncbn_batch_norm* layer, const char* file);
syncbn_status syncbn_batch_norm_load(syncbn_batch_norm* layer, const char* file);

/* --- the phases: forward_sums, (all-reduce), finalize, normalize;
 *                 backward_sums, (all-reduce), input_gradient -------------------------------- */

/* Doubles in either message: 2 * channels + 1; 0 for less than one channel or more than 2^40. */
size_t syncbn_sums_length(int64_t channels);

/* sums = { sum(x - pivot) [C], sum((x - pivot)^2) [C], count }. pivot [C], same bits on all ranks;
 * for other types than f64, values that a float can have. */
syncbn_status syncbn_forward_sums(const syncbn_tensor* x, const float* weight, const double* pivot,
                                  double* sums, syncbn_backend backend);

/* From summed-up sums: mean, var (biased), invstd [C] each and the count. If the pivot was so far
 * from the mean that accuracy is lost, moves it there, sets *again to 1 and writes nothing else:
 * take the sums and their all-reduce once more. Pass again = NULL after the third time, to go on
 * regardless. mean, var, invstd, count and pivot overlap no other of them. */
syncbn_status syncbn_finalize(int64_t channels, const double* sums, double* pivot, double eps,
                              syncbn_dtype dtype, double* mean, double* var, double* invstd,
                              double* count, int* again);

/* gamma and beta [C] may both be NULL for 1 and 0; residual may be NULL. y may be x or residual. */
syncbn_status syncbn_normalize(const syncbn_tensor* x, const float* weight, const double* mean,
                               const double* invstd, const double* gamma, const double* beta,
                               double negative_slope, const syncbn_tensor* residual,
                               const syncbn_tensor* y, syncbn_backend backend);

/* sums = { sum(dz) [C], sum(dz * (x - mean)) [C], count }. y is needed with an activation behind a
 * residual, and may be NULL otherwise. */
syncbn_status syncbn_backward_sums(const syncbn_tensor* x, const syncbn_tensor* dy,
                                   const float* weight, const double* mean, const double* invstd,
                                   const double* gamma, const double* beta, double negative_slope,
                                   const syncbn_tensor* y, double* sums, syncbn_backend backend);

/* dx from summed-up sums. dresidual may be NULL. dx or dresidual may be dy. */
syncbn_status syncbn_input_gradient(const syncbn_tensor* x, const syncbn_tensor* dy,
                                    const float* weight, const double* mean, const double* invstd,
                                    const double* gamma, const double* beta, double negative_slope,
                                    const syncbn_tensor* y, const double* sums,
                                    const syncbn_tensor* dx, const syncbn_tensor* dresidual,
                                    syncbn_backend backend);

#ifdef __cplusplus
}
#endif

#endif
