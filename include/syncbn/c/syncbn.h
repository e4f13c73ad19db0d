/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_C_SYNCBN_H
#define SYNCBN_C_SYNCBN_H

/*
 * This is the C interface of syncbn. It wraps the communicators, layer and phases of
 * syncbn/communicator.hpp, syncbn/batch_norm.hpp and syncbn/phases.hpp, whose documentation holds
 * here too: also on shapes, which memory may overlap, costs, and which ranks must call.
 * "Collective" marks functions that every rank of the group calls, in the same order; the others
 * are local.
 *
 * Every call that can fail returns a status; on failure syncbn_last_error() says what happened, in
 * the calling thread, until its next failing call. A handle that a function writes to `out` belongs
 * to the caller and is released by its _free function, which accepts NULL. A call that fails gives
 * out no handle. Nothing is printed and nothing exits.
 *
 * Any other function refuses a handle that is NULL. It returns SYNCBN_INVALID_ARGUMENT if it
 * returns a status, NULL for a pointer, 0 for a count or a size, -1 for a rank, and does nothing if
 * it returns nothing; syncbn_last_error() says which argument it was.
 *
 * A struct that a program fills begins with its size, and has a macro that initializes it. So newer
 * libraries can add members: a program that was compiled with an older header gets their defaults.
 * A size that is none is refused; so are members that the library does not know, unless they are 0.
 */

#include <stddef.h>
#include <stdint.h>

#include "syncbn/c/version.h"
#include "syncbn/export.h"

SYNCBN_C_API_BEGIN

typedef enum syncbn_status {
  SYNCBN_OK = 0,
  SYNCBN_INVALID_ARGUMENT = 1, /* wrong shape, value out of range, or a pointer that is NULL, not
                                  aligned or into memory that overlaps; nothing changed */
  SYNCBN_NOT_CONFIGURED = 2,   /* the object or build was not set up for this; nothing changed */
  SYNCBN_FILE_ERROR = 3,       /* a file cannot be read, written or understood; nothing changed */
  SYNCBN_COMM_ERROR = 4,       /* a collective failed; the communicator is unusable */
  SYNCBN_INTERNAL_ERROR = 5,   /* anything else: out of memory, a defect */
  SYNCBN_DEVICE_ERROR = 6      /* a CUDA device failed, or cannot do what it was asked for */
} syncbn_status;

/* Choices are plain ints, so that a value that is none of them can be passed, and refused. */
typedef int syncbn_dtype;
enum { SYNCBN_F32 = 0, SYNCBN_F64 = 1, SYNCBN_F16 = 2, SYNCBN_BF16 = 3 };

typedef int syncbn_layout;
enum {
  SYNCBN_CHANNELS_FIRST = 0, /* [N, C, S] */
  SYNCBN_CHANNELS_LAST = 1   /* [N, S, C] */
};

typedef int syncbn_backend;
enum { SYNCBN_CPU = 0, SYNCBN_REFERENCE = 1 };

/* A syncbn_device says where memory is: SYNCBN_ON_CPU, or SYNCBN_ON_CUDA(k) for the CUDA device of
 * number k, counted from 0. */
typedef int syncbn_device;
enum { SYNCBN_ON_CPU = 0 };
#define SYNCBN_ON_CUDA(k) ((k) + 1)

/* A syncbn_cuda_stream is the same type as cudaStream_t. This header needs none of CUDA's. NULL is
 * the default stream; it is also what a layer on the CPU is given. */
typedef struct CUstream_st* syncbn_cuda_stream;

/* A syncbn_tensor is a view of a dense tensor: n samples, c channels, s = product of the spatial
 * sizes (1 for none). n = 0 means that this rank has no samples. The memory stays the caller's. */
typedef struct syncbn_tensor {
  size_t size; /* sizeof(syncbn_tensor) */
  void* data;
  syncbn_dtype dtype;
  syncbn_layout layout;
  int64_t n;
  int64_t c;
  int64_t s;
  syncbn_device device;
} syncbn_tensor;
/* Initializes one: syncbn_tensor x = SYNCBN_TENSOR(data, SYNCBN_F32, SYNCBN_CHANNELS_FIRST, n, c,
 * s); in the CPU's memory, and SYNCBN_TENSOR_ON(SYNCBN_ON_CUDA(0), data, ...) in a device's. */
#define SYNCBN_TENSOR_ON(device, data, dtype, layout, n, c, s) \
  { sizeof(syncbn_tensor), (data), (dtype), (layout), (n), (c), (s), (device) }
#define SYNCBN_TENSOR(data, dtype, layout, n, c, s) \
  SYNCBN_TENSOR_ON(SYNCBN_ON_CPU, data, dtype, layout, n, c, s)

typedef struct syncbn_communicator syncbn_communicator;
typedef struct syncbn_batch_norm syncbn_batch_norm;
typedef struct syncbn_forward_record syncbn_forward_record;

/* Returns the library's version, "major.minor.patch". */
const char* syncbn_version(void);
/* Returns why the calling thread's last failing call failed, "" before any. The text is UTF-8 (a
 * name that is not gets U+FFFD in place of what is wrong), is the library's, and stays valid until
 * the thread's next failing call. */
const char* syncbn_last_error(void);

/* --- communicators ------------------------------------------------------------------------- */

/* A syncbn_report_handler is called with a line of UTF-8, from the thread that waits, when a rank
 * has been missing for its communicator's report_seconds, and again when it came after all (not for
 * sums on a device's stream). */
typedef void (*syncbn_report_handler)(const char* line, void* user);
/* Sets the process's one handler, which is called with `user`. NULL turns reports off; there are
 * none at first. */
void syncbn_set_report_handler(syncbn_report_handler handler, void* user);
/* Sets the directory into which ranks write their last thousand exchanges when one fails. With NULL
 * or "" they write nothing. At first it is what SYNCBN_FLIGHT_RECORD in the environment names. */
syncbn_status syncbn_set_flight_record_directory(const char* directory);

typedef int syncbn_exchange;
enum {
  SYNCBN_EXCHANGE_DEFAULT = 0, /* what SYNCBN_EXCHANGE in the environment says; else builtin */
  SYNCBN_EXCHANGE_BUILTIN = 1, /* this library sums over MPI ranks */
  SYNCBN_EXCHANGE_MPI = 2      /* MPI_Iallreduce does */
};

/* A syncbn_communicator_options says how long a communicator waits for ranks. 0 stands for what
 * SYNCBN_TIMEOUT and SYNCBN_REPORT_AFTER in the environment say, else 300 s and 10 s (half the
 * timeout, if that is shorter); other times are above 0 and at most 1e9. Where a function takes
 * options, NULL stands for the defaults. */
typedef struct syncbn_communicator_options {
  size_t size;              /* sizeof(syncbn_communicator_options) */
  double timeout_seconds;   /* 0; a collective that waits longer returns SYNCBN_COMM_ERROR */
  double report_seconds;    /* 0; a rank that is missing longer is reported, once */
  syncbn_exchange exchange; /* SYNCBN_EXCHANGE_DEFAULT; of MPI ranks only */
} syncbn_communicator_options;
#define SYNCBN_COMMUNICATOR_OPTIONS_INIT \
  { sizeof(syncbn_communicator_options), 0, 0, SYNCBN_EXCHANGE_DEFAULT }

/* Makes a group of one rank. syncbn/c/mpi.h makes one of MPI ranks. */
syncbn_status syncbn_communicator_self(syncbn_communicator** out);

/* Makes a group of `ranks` threads of this process and writes their handles to out[0..ranks), in
 * rank order: one for each thread that acts as a rank, each to be freed. */
syncbn_status syncbn_communicator_threads(int ranks, const syncbn_communicator_options* options,
                                          syncbn_communicator** out);

/* A syncbn_all_reduce sums data[0..count) over all ranks in place and leaves the same bits on every
 * rank. It returns 0, or another number if it failed. */
typedef int (*syncbn_all_reduce)(double* data, size_t count, void* user);

/* Makes a group that sums with another collective library, through its all-reduce, which is called
 * with `user`. Every rank passes its own rank and the common size. */
syncbn_status syncbn_communicator_custom(int rank, int size, syncbn_all_reduce all_reduce,
                                         void* user, syncbn_communicator** out);

/* Collective. Makes a group of the same ranks, which are processes or threads of one host, that
 * sums through memory which they share, without MPI. `bootstrap`, such as a custom group, serves to
 * set it up. Returns SYNCBN_NOT_CONFIGURED on every rank if one cannot share memory with rank 0. */
syncbn_status syncbn_communicator_processes(const syncbn_communicator* bootstrap,
                                            const syncbn_communicator_options* options,
                                            syncbn_communicator** out);

/* Collective. Makes the sub-group of the ranks that gave the same color, in the order of their
 * ranks. */
syncbn_status syncbn_communicator_split(const syncbn_communicator* group, int color,
                                        syncbn_communicator** out);
/* Collective. Splits the group into sub-groups of consecutive ranks with at least `samples` samples
 * each, where `mine` is how many this rank has, and makes this rank's. See
 * Communicator::split_by_samples. */
syncbn_status syncbn_communicator_split_by_samples(const syncbn_communicator* group, int64_t mine,
                                                   int64_t samples, syncbn_communicator** out);
/* Collective. Sums data[0..count) over the ranks in place. */
syncbn_status syncbn_communicator_all_reduce(const syncbn_communicator* group, double* data,
                                             size_t count);
/* A syncbn_pending identifies a sum that has begun, on the rank that began it. The library fills
 * it; what is in it is its own business. */
typedef struct syncbn_pending {
  uint64_t opaque[8];
} syncbn_pending;

/* Collective. Begins to sum data[0..count) over the ranks in place and does not wait for the sum
 * (but a custom group's all-reduce runs inside this call). data must stay in place, untouched,
 * until the sum is finished. Several may be under way; all ranks start them in the same order. */
syncbn_status syncbn_communicator_start(const syncbn_communicator* group, double* data,
                                        size_t count, syncbn_pending* out);
/* Collective. Waits until the data hold the sum. Each sum is finished once, in any order; sums of
 * different communicators are finished in the same order on all ranks. */
syncbn_status syncbn_communicator_finish(const syncbn_communicator* group,
                                         const syncbn_pending* pending);
/* A syncbn_counters holds what a rank has exchanged over a communicator since it was made. */
typedef struct syncbn_counters {
  size_t size;       /* sizeof(syncbn_counters) */
  int64_t exchanges; /* collectives completed */
  int64_t bytes;     /* their messages' lengths added up, each counted once */
  double seconds;    /* time inside them, waiting for other ranks included */
} syncbn_counters;
#define SYNCBN_COUNTERS_INIT \
  { sizeof(syncbn_counters), 0, 0, 0 }
syncbn_status syncbn_communicator_counters(const syncbn_communicator* group, syncbn_counters* out);
/* Writes this rank's last thousand exchanges as JSON, with a 0 at the end, to buffer[0..size), as
 * far as they fit, and to *length how many bytes they are, without the 0. buffer may be NULL if
 * size is 0. Leave some room beyond what such a call says: times are written with as many digits as
 * they have, which may be other ones the next time. Works after a failure too. */
syncbn_status syncbn_communicator_flight_record(const syncbn_communicator* group, char* buffer,
                                                size_t size, size_t* length);
/* Returns this rank's number, from 0 on. */
int syncbn_communicator_rank(const syncbn_communicator* group);
int syncbn_communicator_size(const syncbn_communicator* group);
/* Releases the handle. Layers made from it keep the group alive. */
void syncbn_communicator_free(syncbn_communicator* group);

/* --- the layer ------------------------------------------------------------------------------ */

/* As momentum, this makes running statistics the average of all batches. */
enum { SYNCBN_AVERAGE_OF_ALL_BATCHES = -1 };

/* The default of each option comes first in its comment. All but backend must be equal on all
 * ranks; see BatchNormOptions. */
typedef struct syncbn_options {
  size_t size;                   /* sizeof(syncbn_options) */
  const char* name;              /* "": "batch_norm.K", counted; the layer's name in messages */
  double eps;                    /* 1e-5; finite, at least 0 */
  double momentum;               /* 0.1; 0 to 1, or SYNCBN_AVERAGE_OF_ALL_BATCHES */
  int affine;                    /* 1: the layer has gamma and beta; 0: none */
  int track_running_stats;       /* 1: the layer has running statistics; 0: none */
  double negative_slope;         /* 1: no activation; 0: ReLU; between: leaky ReLU */
  int group_parameter_gradients; /* 0: this rank's own sums; 1: the group's */
  int64_t channel_blocks;        /* 0: blocks of channels that suit the cache; else their number */
  int exact;                     /* 0; 1: the same bits for any ranks; see Reproducibility */
  syncbn_backend backend;        /* SYNCBN_CPU; what computes where the layer is on the CPU */
  int compare_parameters;        /* 1: ranks compare gamma and beta; 0: they may differ */
  /* Both NULL, or functions that give memory of so many bytes on the layer's device, and take it
   * back: for what the layer keeps per channel, for records that it fills and, on a CUDA device,
   * for partial sums. Memory is aligned to 256 bytes there and to 16 on the CPU; NULL for none ends
   * in SYNCBN_INTERNAL_ERROR. They are called in the thread of the call that needs the memory,
   * which may be collective, or that frees a layer or a record, which may outlive the layer. */
  void* (*allocate)(size_t bytes, void* user);
  void (*release)(void* memory, void* user);
  void* user; /* NULL; what both are called with */
} syncbn_options;
/* Initializes options to their defaults: of the comments above, the first values. */
#define SYNCBN_OPTIONS_INIT \
  { sizeof(syncbn_options), "", 1e-5, 0.1, 1, 1, 1, 0, 0, 0, SYNCBN_CPU, 1, NULL, NULL, NULL }

/* Makes a layer of `channels` channels, 1 to 2^40, on the CPU; syncbn/c/device.h makes one on a
 * CUDA device. `options` may be NULL for the defaults; they are copied. The layer keeps the group
 * alive. */
syncbn_status syncbn_batch_norm_new(int64_t channels, const syncbn_communicator* group,
                                    const syncbn_options* options, syncbn_batch_norm** out);
void syncbn_batch_norm_free(syncbn_batch_norm* layer);

/* A syncbn_array is a view of values of any float type, one for each channel, on the layer's
 * device; data is NULL for none. */
typedef struct syncbn_array {
  void* data;
  syncbn_dtype dtype;
} syncbn_array;
#define SYNCBN_NO_ARRAY \
  { NULL, -1 }

/* A syncbn_layer_memory is memory of the caller's that a layer uses in place of its own, as it is:
 * see LayerMemory. */
typedef struct syncbn_layer_memory {
  size_t size;         /* sizeof(syncbn_layer_memory) */
  syncbn_array weight; /* with bias, or neither */
  syncbn_array bias;
  syncbn_array weight_grad; /* with bias_grad, or neither */
  syncbn_array bias_grad;
  syncbn_array running_mean; /* with running_var, or neither */
  syncbn_array running_var;
  int64_t* num_batches_tracked; /* NULL, or the address of one number */
} syncbn_layer_memory;
#define SYNCBN_LAYER_MEMORY_INIT                                                    \
  {                                                                                 \
    sizeof(syncbn_layer_memory), SYNCBN_NO_ARRAY, SYNCBN_NO_ARRAY, SYNCBN_NO_ARRAY, \
        SYNCBN_NO_ARRAY, SYNCBN_NO_ARRAY, SYNCBN_NO_ARRAY, NULL                     \
  }
/* From now on the layer uses the arrays that are given, in place of those before; others stay. The
 * memory must stay until the layer is freed or uses other memory, and streams are done with it. */
syncbn_status syncbn_batch_norm_use(syncbn_batch_norm* layer, const syncbn_layer_memory* memory);

/* Makes an object for what a backward needs from its forward. Each forward that waits for its
 * backward needs one of its own. */
syncbn_status syncbn_forward_record_new(syncbn_forward_record** out);
/* Makes one that keeps its values in the caller's memory: syncbn_forward_record_length(channels)
 * doubles on `device`, for layers of at most so many channels. */
syncbn_status syncbn_forward_record_new_in(double* memory, int64_t channels, syncbn_device device,
                                           syncbn_forward_record** out);
/* Returns 0 for less than one channel or more than 2^40. */
size_t syncbn_forward_record_length(int64_t channels);
void syncbn_forward_record_free(syncbn_forward_record* record);
/* Return the statistics of the group's batch: [C] doubles in the memory of the layer's device; NULL
 * before the first forward. var is biased; the count, of elements per channel, is one double. */
const double* syncbn_forward_record_mean(const syncbn_forward_record* record);
const double* syncbn_forward_record_var(const syncbn_forward_record* record);
const double* syncbn_forward_record_invstd(const syncbn_forward_record* record);
const double* syncbn_forward_record_count(const syncbn_forward_record* record);

/* In all functions below, `position_weights` gives positions weights: [N, S] floats, 0 for padding,
 * or NULL for none. See syncbn/phases.hpp. Tensors, weights and arrays are on the layer's device.
 * On a CUDA device, the device must be current, work is put on `stream`, and memory that is passed
 * must not be used otherwise until the stream is done with it. */

/* Collective. Writes y = activation(normalized x [+ residual]) with the group's batch statistics,
 * updates the running ones, and fills `record`. residual may be NULL. y may be x or residual. */
syncbn_status syncbn_batch_norm_forward(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                        const syncbn_tensor* residual,
                                        const float* position_weights, const syncbn_tensor* y,
                                        syncbn_forward_record* record, syncbn_cuda_stream stream);

/* Collective. Writes dx, and adds to the parameter gradients. y and dresidual are the forward's
 * output and the residual's gradient, for a forward with a residual; for one without, both are
 * NULL. A layer without activation takes y as NULL too. dx or dresidual may be dy. */
syncbn_status syncbn_batch_norm_backward(syncbn_batch_norm* layer,
                                         const syncbn_forward_record* record,
                                         const syncbn_tensor* x, const syncbn_tensor* y,
                                         const syncbn_tensor* dy, const float* position_weights,
                                         const syncbn_tensor* dx, const syncbn_tensor* dresidual,
                                         syncbn_cuda_stream stream);

/* These hold the arguments of one of several forwards or backwards. All elements of an array have
 * the same size. */
typedef struct syncbn_forward_call {
  size_t size; /* sizeof(syncbn_forward_call) */
  syncbn_batch_norm* layer;
  const syncbn_tensor* x;
  const syncbn_tensor* residual;
  const float* position_weights;
  const syncbn_tensor* y;
  syncbn_forward_record* record;
} syncbn_forward_call;
#define SYNCBN_FORWARD_CALL_INIT \
  { sizeof(syncbn_forward_call), NULL, NULL, NULL, NULL, NULL, NULL }
typedef struct syncbn_backward_call {
  size_t size; /* sizeof(syncbn_backward_call) */
  syncbn_batch_norm* layer;
  const syncbn_forward_record* record;
  const syncbn_tensor* x;
  const syncbn_tensor* y;
  const syncbn_tensor* dy;
  const float* position_weights;
  const syncbn_tensor* dx;
  const syncbn_tensor* dresidual;
} syncbn_backward_call;
#define SYNCBN_BACKWARD_CALL_INIT \
  { sizeof(syncbn_backward_call), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL }

/* Collective. Run the forwards, or the backwards, of `count` layers of one communicator on the CPU
 * that are ready at the same time, with one message for all. Each layer and each `record` is given
 * once; every rank gives the same layers in the same order. */
syncbn_status syncbn_forward_together(const syncbn_forward_call* calls, size_t count);
syncbn_status syncbn_backward_together(const syncbn_backward_call* calls, size_t count);

/* Collective. Overwrites x with y, from which the backward recovers x: one tensor is kept instead
 * of two. The layer's negative_slope must be above 0, and gamma nowhere 0; see
 * BatchNorm::forward_in_place. */
syncbn_status syncbn_batch_norm_forward_in_place(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                                 const float* position_weights,
                                                 syncbn_forward_record* record,
                                                 syncbn_cuda_stream stream);
/* Collective. Writes dx, and adds to the parameter gradients, with y as the forward left it. dx may
 * be dy. */
syncbn_status syncbn_batch_norm_backward_in_place(syncbn_batch_norm* layer,
                                                  const syncbn_forward_record* record,
                                                  const syncbn_tensor* y, const syncbn_tensor* dy,
                                                  const float* position_weights,
                                                  const syncbn_tensor* dx,
                                                  syncbn_cuda_stream stream);

/* Writes y as the forward does, with the running statistics: local. Without track_running_stats it
 * uses the group's batch statistics and is collective. If `record` is not NULL, it is filled for a
 * backward through the running statistics, which stay as they are (frozen batch norm); returns
 * SYNCBN_NOT_CONFIGURED in that case without track_running_stats. */
syncbn_status syncbn_batch_norm_infer(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                      const syncbn_tensor* residual, const float* position_weights,
                                      const syncbn_tensor* y, syncbn_forward_record* record,
                                      syncbn_cuda_stream stream);

/* Return the layer's own parameters, gradients and running statistics: [C] doubles in the memory of
 * its device, to read and write; NULL where the options left them out, and where the memory is the
 * caller's. Valid until the layer is freed. */
double* syncbn_batch_norm_weight(syncbn_batch_norm* layer);
double* syncbn_batch_norm_bias(syncbn_batch_norm* layer);
double* syncbn_batch_norm_weight_grad(syncbn_batch_norm* layer);
double* syncbn_batch_norm_bias_grad(syncbn_batch_norm* layer);
double* syncbn_batch_norm_running_mean(syncbn_batch_norm* layer);
double* syncbn_batch_norm_running_var(syncbn_batch_norm* layer);
/* Returns the address of one number there, the caller's if it is; NULL without
 * track_running_stats. */
int64_t* syncbn_batch_norm_num_batches_tracked(syncbn_batch_norm* layer);
/* Returns how many forwards had to take their sums again, as a rule because the pivot was far from
 * the batch's mean; 0 on a CUDA device. See BatchNorm::pivot_retries. */
int64_t syncbn_batch_norm_pivot_retries(const syncbn_batch_norm* layer);
syncbn_status syncbn_batch_norm_zero_grad(syncbn_batch_norm* layer, syncbn_cuda_stream stream);

/* A syncbn_state is a layer's state in the CPU's memory: [C] doubles each, which are the caller's.
 */
typedef struct syncbn_state {
  size_t size; /* sizeof(syncbn_state) */
  double* weight;
  double* bias;
  double* running_mean;
  double* running_var;
  int64_t num_batches_tracked;
} syncbn_state;
#define SYNCBN_STATE_INIT \
  { sizeof(syncbn_state), NULL, NULL, NULL, NULL, 0 }
/* Local. Write the layer's state to the arrays, or take it from there, and wait for the stream.
 * Arrays that the layer has are needed; the others are not looked at. get_state returns
 * SYNCBN_FILE_ERROR where values are not finite, set_state where they are not or a variance is
 * negative, and the layer stays as it was. */
syncbn_status syncbn_batch_norm_get_state(const syncbn_batch_norm* layer, syncbn_state* state,
                                          syncbn_cuda_stream stream);
syncbn_status syncbn_batch_norm_set_state(syncbn_batch_norm* layer, const syncbn_state* state,
                                          syncbn_cuda_stream stream);

/* A syncbn_population adds up the mean and variance of a layer's input over many batches and all
 * ranks, to replace running averages ("PreciseBN"); see syncbn/population.hpp. */
typedef struct syncbn_population syncbn_population;
syncbn_status syncbn_population_new(int64_t channels, syncbn_population** out);
void syncbn_population_free(syncbn_population* population);
/* Local. Adds this rank's x, which is in the CPU's memory: returns SYNCBN_NOT_CONFIGURED for a
 * device's. */
syncbn_status syncbn_population_add(syncbn_population* population, const syncbn_tensor* x,
                                    const float* position_weights);
/* Collective. Writes mean and var (biased), [C] each, and the count of elements per channel, of all
 * that the ranks of the group have added. The three are memory of their own. */
syncbn_status syncbn_population_finish(const syncbn_population* population,
                                       const syncbn_communicator* group, double* mean, double* var,
                                       double* count);
/* Local. Takes them as running statistics, the variance unbiased. Give the same on every rank.
 * Returns SYNCBN_INVALID_ARGUMENT for what is not finite or too large for the layer's arrays, and a
 * negative var or count; SYNCBN_NOT_CONFIGURED without track_running_stats. */
syncbn_status syncbn_batch_norm_set_running_statistics(syncbn_batch_norm* layer, const double* mean,
                                                       const double* var, double count,
                                                       syncbn_cuda_stream stream);

/* Local. Write and read a safetensors file with PyTorch's names, of this layer alone, and wait for
 * the stream; writing is atomic. A layer with values that are not finite is not saved: returns
 * SYNCBN_FILE_ERROR, and the old file stays. */
syncbn_status syncbn_batch_norm_save(const syncbn_batch_norm* layer, const char* file,
                                     syncbn_cuda_stream stream);
syncbn_status syncbn_batch_norm_load(syncbn_batch_norm* layer, const char* file,
                                     syncbn_cuda_stream stream);

/* --- the phases: forward_sums, (all-reduce), finalize, normalize;
 *                 backward_sums, (all-reduce), input_gradient --------------------------------
 *
 * They are for a program that brings its own all-reduce; see syncbn/phases.hpp. On a CUDA device,
 * all that a function is given is in the memory of the tensors' device. */

/* A syncbn_scratch is memory that phases compute with; it grows as they need it. */
typedef struct syncbn_scratch syncbn_scratch;
/* Makes one. On a CUDA device `allocate` gives memory and `release` takes it back, as in
 * syncbn_options; both may be NULL. */
syncbn_status syncbn_scratch_new(void* (*allocate)(size_t bytes, void* user),
                                 void (*release)(void* memory, void* user), void* user,
                                 syncbn_scratch** out);
void syncbn_scratch_free(syncbn_scratch* scratch);

/* A syncbn_phase_options says how a phase computes; NULL stands for the defaults. */
typedef struct syncbn_phase_options {
  size_t size; /* sizeof(syncbn_phase_options) */
  syncbn_cuda_stream stream;
  syncbn_scratch* scratch; /* NULL: the call allocates; on a device that waits for the device */
  syncbn_backend backend;
} syncbn_phase_options;
#define SYNCBN_PHASE_OPTIONS_INIT \
  { sizeof(syncbn_phase_options), NULL, NULL, SYNCBN_CPU }

/* Returns how many doubles the sums of either pass are, 2 * channels + 1; 0 for less than one
 * channel or more than 2^40. */
size_t syncbn_sums_length(int64_t channels);

/* Computes sums = { sum(x - pivot) [C], sum((x - pivot)^2) [C], count } of this rank's samples.
 * pivot [C] has the same bits on all ranks; except with f64, its values are finite floats. */
syncbn_status syncbn_forward_sums(const syncbn_tensor* x, const float* position_weights,
                                  const double* pivot, double* sums,
                                  const syncbn_phase_options* options);

/* In the CPU's memory. Computes mean, var (biased) and invstd, [C] each, and the count, from the
 * group's sums about the pivot. What is written must not overlap anything else. */
syncbn_status syncbn_finalize(int64_t channels, const double* sums, const double* pivot, double eps,
                              double* mean, double* var, double* invstd, double* count);

/* A syncbn_pass holds what phases need of a pass besides x. Of those that a phase does not use,
 * none is looked at. */
typedef struct syncbn_pass {
  size_t size; /* sizeof(syncbn_pass) */
  const float* position_weights;
  const double* mean;   /* [C] of the group's batch */
  const double* invstd; /* [C] */
  syncbn_array gamma;   /* with beta; neither means 1 and 0 */
  syncbn_array beta;
  double negative_slope;
  const syncbn_tensor* residual; /* in a forward: NULL, or what is added */
  const syncbn_tensor* dy;       /* in a backward */
  const syncbn_tensor* y;        /* in a backward: needed if there are both a residual and an
                                    activation, else NULL */
  int from_output; /* in a backward: 0; 1: x is the forward's output, see BackwardContext */
} syncbn_pass;
#define SYNCBN_PASS_INIT                                                                          \
  {                                                                                               \
    sizeof(syncbn_pass), NULL, NULL, NULL, SYNCBN_NO_ARRAY, SYNCBN_NO_ARRAY, 1, NULL, NULL, NULL, \
        0                                                                                         \
  }

/* Writes y = activation((x - mean) * invstd * gamma + beta [+ residual]). y may be x or residual.
 */
syncbn_status syncbn_normalize(const syncbn_tensor* x, const syncbn_pass* pass,
                               const syncbn_tensor* y, const syncbn_phase_options* options);

/* Computes sums = { sum(dz) [C], sum(dz * (x - mean)) [C], count } of this rank's samples, where dz
 * is dy taken back through the activation. */
syncbn_status syncbn_backward_sums(const syncbn_tensor* x, const syncbn_pass* pass, double* sums,
                                   const syncbn_phase_options* options);

/* Writes dx from the group's sums, and dz to dresidual, which may be NULL. dx or dresidual may be
 * dy. */
syncbn_status syncbn_input_gradient(const syncbn_tensor* x, const syncbn_pass* pass,
                                    const double* sums, const syncbn_tensor* dx,
                                    const syncbn_tensor* dresidual,
                                    const syncbn_phase_options* options);

/* Adds to the gradients of gamma and beta, [C] each: sums[C + c] * invstd[c] and sums[c]. All are
 * in the memory of `device`. */
syncbn_status syncbn_add_parameter_gradients(int64_t channels, const double* sums,
                                             const double* invstd, syncbn_array weight_grad,
                                             syncbn_array bias_grad, syncbn_device device,
                                             const syncbn_phase_options* options);

/* A syncbn_batch_state points to what a layer keeps from batch to batch, [C] each, on one device:
 * all of it with running statistics, the pivot alone without. See BatchState. */
typedef struct syncbn_batch_state {
  size_t size; /* sizeof(syncbn_batch_state) */
  int64_t channels;
  double* pivot;             /* 0 at first */
  syncbn_array running_mean; /* 0 at first */
  syncbn_array running_var;  /* 1 at first */
  double* start_mean;        /* the library's; 0 at first, and after running_mean was loaded */
  double* start_var;         /* the library's; 1 at first, and after running_var was loaded */
  int64_t* num_batches_tracked;
  syncbn_device device;
} syncbn_batch_state;
#define SYNCBN_BATCH_STATE_INIT                                                              \
  {                                                                                          \
    sizeof(syncbn_batch_state), 0, NULL, SYNCBN_NO_ARRAY, SYNCBN_NO_ARRAY, NULL, NULL, NULL, \
        SYNCBN_ON_CPU                                                                        \
  }

/* Sets the pivot to the mean that the running statistics predict, before a first forward and after
 * running statistics were loaded. `momentum` is as in syncbn_options. */
syncbn_status syncbn_expect_batch(const syncbn_batch_state* state, double momentum,
                                  syncbn_dtype dtype, const syncbn_phase_options* options);
/* In the CPU's memory. Moves the pivots that are far from the mean that the group's sums give, and
 * sets *any to 1 if there were any: then take the sums again, and ask again with the next round.
 * `round` is how often this was asked for the batch before. See move_far_pivots. */
syncbn_status syncbn_move_far_pivots(int64_t channels, const double* sums, double* pivot,
                                     double eps, syncbn_dtype dtype, int round, int* any);
/* Computes mean, var (biased), invstd, [C] each, and the count [1] from the group's sums, moves the
 * running statistics, and chooses the pivot of the next sums. See finalize_batch. */
syncbn_status syncbn_finalize_batch(const double* sums, const syncbn_batch_state* state, double eps,
                                    double momentum, syncbn_dtype dtype, double* mean, double* var,
                                    double* invstd, double* count,
                                    const syncbn_phase_options* options);
/* Writes a hash of the state and of gamma and beta, whose data may be NULL, for ranks to compare:
 * where it differs, their sums do not belong together. */
syncbn_status syncbn_state_digest(const syncbn_batch_state* state, syncbn_array gamma,
                                  syncbn_array beta, uint64_t* digest,
                                  const syncbn_phase_options* options);

SYNCBN_C_API_END

#endif
