/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_C_DEVICE_H
#define SYNCBN_C_DEVICE_H

/*
 * The layer on a CUDA device: syncbn/device_communicator.hpp and syncbn/device_batch_norm.hpp,
 * whose documentation holds here too. Needs no CUDA header: a cudaStream_t is passed as it is.
 * Tensors, weights and arrays are in the memory of the device that was current when the
 * communicator was made, and that is to be current in every call. Calls put their work on the
 * stream and return; memory that is passed must not be used otherwise until the stream has come so
 * far.
 *
 * A build without CUDA gives out no communicator, and so no layer: SYNCBN_NOT_CONFIGURED.
 */

#include "syncbn/c/syncbn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* cudaStream_t */
typedef struct CUstream_st* syncbn_cuda_stream;

typedef struct syncbn_device_communicator syncbn_device_communicator;
typedef struct syncbn_device_batch_norm syncbn_device_batch_norm;
typedef struct syncbn_device_saved syncbn_device_saved;

/* --- communicators ------------------------------------------------------------------------- */

/* A group of one rank. */
syncbn_status syncbn_device_communicator_self(syncbn_device_communicator** out);
/* Over the host: sums are copied to it, summed by `host` and copied back. Not for graphs. */
syncbn_status syncbn_device_communicator_staged(const syncbn_communicator* host,
                                                double timeout_seconds,
                                                syncbn_device_communicator** out);
/* Collective over bootstrap's ranks, each with a device of its own. Sums are put on the stream and
 * can be captured in a graph. SYNCBN_NOT_CONFIGURED in a build without NCCL. */
syncbn_status syncbn_device_communicator_nccl(const syncbn_communicator* bootstrap,
                                              double timeout_seconds,
                                              syncbn_device_communicator** out);
/* Collective. The sub-group of the ranks that gave the same color. */
syncbn_status syncbn_device_communicator_split(const syncbn_device_communicator* group, int color,
                                               syncbn_device_communicator** out);

/* Doubles behind the values of a sum that it needs for itself. */
enum { SYNCBN_DEVICE_OWN_WORDS = 8 };
/* Collective. Sums values[0..length) over the ranks in place; overwrites SYNCBN_DEVICE_OWN_WORDS
 * doubles behind them. */
syncbn_status syncbn_device_communicator_all_reduce(const syncbn_device_communicator* group,
                                                    double* values, size_t length,
                                                    syncbn_cuda_stream stream);
/* SYNCBN_COMM_ERROR for what has failed so far; does not wait for the device. */
syncbn_status syncbn_device_communicator_poll(const syncbn_device_communicator* group);
/* Waits for what was put on the stream, and not for a missing rank: SYNCBN_COMM_ERROR then. */
syncbn_status syncbn_device_communicator_synchronize(const syncbn_device_communicator* group,
                                                     syncbn_cuda_stream stream);
int syncbn_device_communicator_rank(const syncbn_device_communicator* group);
int syncbn_device_communicator_size(const syncbn_device_communicator* group);
/* Layers made from it keep the group alive. */
void syncbn_device_communicator_free(syncbn_device_communicator* group);

/* --- the layer ------------------------------------------------------------------------------ */

/* `options` may be NULL for the defaults; of them channel_blocks and backend mean nothing here. */
syncbn_status syncbn_device_batch_norm_new(int64_t channels,
                                           const syncbn_device_communicator* group,
                                           const syncbn_options* options,
                                           syncbn_device_batch_norm** out);
void syncbn_device_batch_norm_free(syncbn_device_batch_norm* layer);

/* What a backward needs of its forward. One for each forward that waits for its backward. */
syncbn_status syncbn_device_saved_new(syncbn_device_saved** out);
void syncbn_device_saved_free(syncbn_device_saved* saved);
/* [C] of the group's batch, device memory; NULL before the first forward. var is biased. */
const double* syncbn_device_saved_mean(const syncbn_device_saved* saved);
const double* syncbn_device_saved_var(const syncbn_device_saved* saved);
const double* syncbn_device_saved_invstd(const syncbn_device_saved* saved);

/* Collective. As syncbn_batch_norm_forward. The weight's values are not looked at. */
syncbn_status syncbn_device_batch_norm_forward(syncbn_device_batch_norm* layer,
                                               const syncbn_tensor* x,
                                               const syncbn_tensor* residual, const float* weight,
                                               const syncbn_tensor* y, syncbn_device_saved* saved,
                                               syncbn_cuda_stream stream);
/* Collective. As syncbn_batch_norm_backward. */
syncbn_status syncbn_device_batch_norm_backward(
    syncbn_device_batch_norm* layer, const syncbn_device_saved* saved, const syncbn_tensor* x,
    const syncbn_tensor* y, const syncbn_tensor* dy, const float* weight, const syncbn_tensor* dx,
    const syncbn_tensor* dresidual, syncbn_cuda_stream stream);
/* Collective. As syncbn_batch_norm_forward_in_place and _backward_in_place. A channel whose gamma
 * is 0 gets no gradient of gamma. */
syncbn_status syncbn_device_batch_norm_forward_in_place(syncbn_device_batch_norm* layer,
                                                        const syncbn_tensor* x, const float* weight,
                                                        syncbn_device_saved* saved,
                                                        syncbn_cuda_stream stream);
syncbn_status syncbn_device_batch_norm_backward_in_place(
    syncbn_device_batch_norm* layer, const syncbn_device_saved* saved, const syncbn_tensor* y,
    const syncbn_tensor* dy, const float* weight, const syncbn_tensor* dx,
    syncbn_cuda_stream stream);
/* Local: with the running statistics. SYNCBN_NOT_CONFIGURED without track_running_stats. `saved`:
 * as syncbn_batch_norm_infer's. */
syncbn_status syncbn_device_batch_norm_infer(syncbn_device_batch_norm* layer,
                                             const syncbn_tensor* x, const syncbn_tensor* residual,
                                             const float* weight, const syncbn_tensor* y,
                                             syncbn_device_saved* saved, syncbn_cuda_stream stream);

/* [C] doubles of the layer's in device memory; NULL where the options left them out. Valid until
 * the layer is freed. */
double* syncbn_device_batch_norm_weight(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_bias(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_weight_grad(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_bias_grad(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_running_mean(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_running_var(syncbn_device_batch_norm* layer);
/* [1], of device memory. */
int64_t* syncbn_device_batch_norm_num_batches_tracked(syncbn_device_batch_norm* layer);
syncbn_status syncbn_device_batch_norm_zero_grad(syncbn_device_batch_norm* layer,
                                                 syncbn_cuda_stream stream);

/* Local. The files of syncbn_batch_norm_save and _load. Wait for the stream. */
syncbn_status syncbn_device_batch_norm_save(const syncbn_device_batch_norm* layer, const char* file,
                                            syncbn_cuda_stream stream);
syncbn_status syncbn_device_batch_norm_load(syncbn_device_batch_norm* layer, const char* file,
                                            syncbn_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif
