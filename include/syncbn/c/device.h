/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_C_DEVICE_H
#define SYNCBN_C_DEVICE_H

/*
 * This is the C interface of groups that sum in the memory of CUDA devices, and makes layers there.
 * It wraps syncbn/device_communicator.hpp, whose documentation holds here too, as do the rules of
 * syncbn/c/syncbn.h.
 *
 * A group's device is the one that was current when it was made; it must be current in every call.
 *
 * In a build without CUDA or an emulated device, functions that make a communicator return
 * SYNCBN_NOT_CONFIGURED, so that there is no layer on a device either.
 */

#include "syncbn/c/syncbn.h"

SYNCBN_C_API_BEGIN

typedef struct syncbn_device_communicator syncbn_device_communicator;

/* Makes a group of one rank. */
syncbn_status syncbn_device_communicator_self(syncbn_device_communicator** out);
/* Makes a group that sums over the CPU: values are copied to the host, summed by `host` and copied
 * back. Its sums cannot be captured in a CUDA graph. The timeout is for the rank's own stream; for
 * ranks, `host` has its own. */
syncbn_status syncbn_device_communicator_staged(const syncbn_communicator* host,
                                                const syncbn_communicator_options* options,
                                                syncbn_device_communicator** out);
/* Collective over bootstrap's ranks. Makes a group that sums with NCCL, each rank with a device of
 * its own. Sums are put on the stream and can be captured in a CUDA graph. A message that is not
 * finished when the timeout is over is ended. Returns SYNCBN_NOT_CONFIGURED in a build
 * without NCCL, and where a rank has no NCCL to use: see DeviceCommunicator::nccl. */
syncbn_status syncbn_device_communicator_nccl(const syncbn_communicator* bootstrap,
                                              const syncbn_communicator_options* options,
                                              syncbn_device_communicator** out);
/* A syncbn_device_all_reduce puts on the stream the sum of values[0..count), in device memory, over
 * all ranks, in place. It returns 0, or another number if it failed. A syncbn_abort ends the sums
 * that are on streams; see DeviceCommunicator::Abort. */
typedef int (*syncbn_device_all_reduce)(double* values, size_t count, syncbn_cuda_stream stream,
                                        void* user);
typedef void (*syncbn_abort)(void* user);
/* Makes a group that sums with another library's collective, which is called with `user`. `host`
 * has the same ranks in the same order. abort may be NULL. See DeviceCommunicator::custom. */
syncbn_status syncbn_device_communicator_custom(const syncbn_communicator* host,
                                                syncbn_device_all_reduce all_reduce,
                                                syncbn_abort abort, void* user,
                                                const syncbn_communicator_options* options,
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
/* Returns SYNCBN_ON_CUDA of the group's device; SYNCBN_ON_CPU for NULL. */
syncbn_device syncbn_device_communicator_device(const syncbn_device_communicator* group);
int syncbn_device_communicator_rank(const syncbn_device_communicator* group);
int syncbn_device_communicator_size(const syncbn_device_communicator* group);
/* Releases the handle. Layers made from it keep the group alive. */
void syncbn_device_communicator_free(syncbn_device_communicator* group);

/* Makes a layer on the group's device, and waits for the device; otherwise as
 * syncbn_batch_norm_new.
 */
syncbn_status syncbn_batch_norm_new_on_device(int64_t channels,
                                              const syncbn_device_communicator* group,
                                              const syncbn_options* options,
                                              syncbn_batch_norm** out);

/* Makes *out so many bytes of the current device's memory, aligned to 256. With an emulated device
 * that is the CPU's, which a program without CUDA can get from nowhere else. */
syncbn_status syncbn_device_memory_new(size_t bytes, void** out);
/* Takes back what syncbn_device_memory_new gave; NULL is nothing. */
void syncbn_device_memory_free(void* memory);

SYNCBN_C_API_END

#endif
