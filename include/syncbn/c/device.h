/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_C_DEVICE_H
#define SYNCBN_C_DEVICE_H

/*
 * This is the C interface of the layer on a CUDA device. It wraps syncbn/device_communicator.hpp
 * and syncbn/device_batch_norm.hpp, whose documentation holds here too, as do the rules of
 * syncbn/c/syncbn.h. It needs no CUDA header: a cudaStream_t is passed as it is.
 *
 * Tensors, weights and arrays are in the memory of the device that was current when the
 * communicator was made; that device must be current in every call. Calls put their work on the
 * stream and return. Memory that is passed must not be used otherwise until the stream is done with
 * it.
 *
 * In a build without CUDA or an emulated device, functions that make a communicator return
 * SYNCBN_NOT_CONFIGURED, so that there is no layer either.
 */

#include "syncbn/c/syncbn.h"

SYNCBN_C_API_BEGIN

/* syncbn_cuda_stream is the same type as cudaStream_t. */
typedef struct CUstream_st* syncbn_cuda_stream;

typedef struct syncbn_device_communicator syncbn_device_communicator;
typedef struct syncbn_device_batch_norm syncbn_device_batch_norm;
typedef struct syncbn_device_saved syncbn_device_saved;

/* --- communicators ------------------------------------------------------------------------- */

/* Makes a group of one rank. */
syncbn_status syncbn_device_communicator_self(syncbn_device_communicator** out);
/* Makes a group that sums over the CPU: values are copied to the host, summed by `host` and copied
 * back. Its sums cannot be captured in a CUDA graph. A call that waits timeout_seconds, above 0 and
 * at most 1e9, for the rank's own stream returns SYNCBN_COMM_ERROR; for ranks, `host` has its
 * own. */
syncbn_status syncbn_device_communicator_staged(const syncbn_communicator* host,
                                                double timeout_seconds,
                                                syncbn_device_communicator** out);
/* Collective over bootstrap's ranks. Makes a group that sums with NCCL, each rank with a device of
 * its own. Sums are put on the stream and can be captured in a CUDA graph. A message that is not
 * finished timeout_seconds after it began is ended. Returns SYNCBN_NOT_CONFIGURED in a build
 * without NCCL, and where a rank has no NCCL to use: see DeviceCommunicator::nccl. */
syncbn_status syncbn_device_communicator_nccl(const syncbn_communicator* bootstrap,
                                              double timeout_seconds,
                                              syncbn_device_communicator** out);
/* Collective. Makes the sub-group of the ranks that gave the same color, in the order of their
 * ranks. */
syncbn_status syncbn_device_communicator_split(const syncbn_device_communicator* group, int color,
                                               syncbn_device_communicator** out);

/* Collective. Puts on the stream the sum of values[0..length) over the ranks, in place. */
syncbn_status syncbn_device_communicator_all_reduce(const syncbn_device_communicator* group,
                                                    double* values, size_t length,
                                                    syncbn_cuda_stream stream);
/* Returns SYNCBN_COMM_ERROR if a sum has failed so far; does not wait for the device. Local unless
 * a sum has failed, then collective. */
syncbn_status syncbn_device_communicator_poll(const syncbn_device_communicator* group);
/* Waits for what was put on the stream. Returns SYNCBN_COMM_ERROR if a rank is missing by the
 * deadline, or the ranks disagree. */
syncbn_status syncbn_device_communicator_synchronize(const syncbn_device_communicator* group,
                                                     syncbn_cuda_stream stream);
int syncbn_device_communicator_rank(const syncbn_device_communicator* group);
int syncbn_device_communicator_size(const syncbn_device_communicator* group);
/* Releases the handle. Layers made from it keep the group alive. */
void syncbn_device_communicator_free(syncbn_device_communicator* group);

/* --- the layer ------------------------------------------------------------------------------ */

/* Makes a layer of `channels` channels, 1 to 2^40, and waits for the device. `options` may be NULL
 * for the defaults; their channel_blocks and backend mean nothing here. */
syncbn_status syncbn_device_batch_norm_new(int64_t channels,
                                           const syncbn_device_communicator* group,
                                           const syncbn_options* options,
                                           syncbn_device_batch_norm** out);
void syncbn_device_batch_norm_free(syncbn_device_batch_norm* layer);

/* Makes an object for what a backward needs from its forward. Each forward that waits for its
 * backward needs one of its own. */
syncbn_status syncbn_device_saved_new(syncbn_device_saved** out);
void syncbn_device_saved_free(syncbn_device_saved* saved);
/* Return the statistics of the group's batch: [C] doubles in device memory, which `saved` owns;
 * NULL before the first forward. var is biased. */
const double* syncbn_device_saved_mean(const syncbn_device_saved* saved);
const double* syncbn_device_saved_var(const syncbn_device_saved* saved);
const double* syncbn_device_saved_invstd(const syncbn_device_saved* saved);

/* Collective. Does what syncbn_batch_norm_forward does, but does not check the values of
 * `position_weights`.
 */
syncbn_status syncbn_device_batch_norm_forward(syncbn_device_batch_norm* layer,
                                               const syncbn_tensor* x,
                                               const syncbn_tensor* residual,
                                               const float* position_weights,
                                               const syncbn_tensor* y, syncbn_device_saved* saved,
                                               syncbn_cuda_stream stream);
/* Collective. Does what syncbn_batch_norm_backward does. */
syncbn_status syncbn_device_batch_norm_backward(
    syncbn_device_batch_norm* layer, const syncbn_device_saved* saved, const syncbn_tensor* x,
    const syncbn_tensor* y, const syncbn_tensor* dy, const float* position_weights,
    const syncbn_tensor* dx, const syncbn_tensor* dresidual, syncbn_cuda_stream stream);
/* Collective. Do what syncbn_batch_norm_forward_in_place and _backward_in_place do, but do not
 * check gamma: a channel whose gamma is 0 gets no gradient of gamma. */
syncbn_status syncbn_device_batch_norm_forward_in_place(syncbn_device_batch_norm* layer,
                                                        const syncbn_tensor* x,
                                                        const float* position_weights,
                                                        syncbn_device_saved* saved,
                                                        syncbn_cuda_stream stream);
syncbn_status syncbn_device_batch_norm_backward_in_place(
    syncbn_device_batch_norm* layer, const syncbn_device_saved* saved, const syncbn_tensor* y,
    const syncbn_tensor* dy, const float* position_weights, const syncbn_tensor* dx,
    syncbn_cuda_stream stream);
/* Local. Writes y as the forward does, with the running statistics. `saved` is NULL or filled, as
 * in syncbn_batch_norm_infer. Returns SYNCBN_NOT_CONFIGURED without track_running_stats. */
syncbn_status syncbn_device_batch_norm_infer(syncbn_device_batch_norm* layer,
                                             const syncbn_tensor* x, const syncbn_tensor* residual,
                                             const float* position_weights, const syncbn_tensor* y,
                                             syncbn_device_saved* saved, syncbn_cuda_stream stream);

/* Return the layer's parameters, gradients and running statistics: [C] doubles in device memory
 * that the layer owns; NULL where the options left them out. Valid until the layer is freed. */
double* syncbn_device_batch_norm_weight(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_bias(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_weight_grad(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_bias_grad(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_running_mean(syncbn_device_batch_norm* layer);
double* syncbn_device_batch_norm_running_var(syncbn_device_batch_norm* layer);
/* Returns the address of one number in device memory; NULL without track_running_stats. */
int64_t* syncbn_device_batch_norm_num_batches_tracked(syncbn_device_batch_norm* layer);
syncbn_status syncbn_device_batch_norm_zero_grad(syncbn_device_batch_norm* layer,
                                                 syncbn_cuda_stream stream);

/* Local. Write and read the same files as syncbn_batch_norm_save and _load, and wait for the
 * stream. */
syncbn_status syncbn_device_batch_norm_save(const syncbn_device_batch_norm* layer, const char* file,
                                            syncbn_cuda_stream stream);
syncbn_status syncbn_device_batch_norm_load(syncbn_device_batch_norm* layer, const char* file,
                                            syncbn_cuda_stream stream);

SYNCBN_C_API_END

#endif
