// SPDX-License-Identifier: Apache-2.0
#include "syncbn/c/device.h"

#include "syncbn/device_batch_norm.hpp"
#include "syncbn/device_communicator.hpp"

#include "capi/guarded.hpp"
#include "capi/handles.hpp"

using namespace syncbn;
using capi::guarded;
using capi::require;
using capi::to_view;

struct syncbn_device_communicator {
  DeviceCommunicator group;
};

struct syncbn_device_batch_norm {
  DeviceBatchNorm layer;
};

struct syncbn_device_saved {
  DeviceSaved saved;
};

// --- communicators ----------------------------------------------------------------------------

syncbn_status syncbn_device_communicator_self(syncbn_device_communicator** out) {
  return guarded([&] {
    require(out, "out");
    *out = new syncbn_device_communicator{DeviceCommunicator::self()};
  });
}

syncbn_status syncbn_device_communicator_staged(const syncbn_communicator* host,
                                                double timeout_seconds,
                                                syncbn_device_communicator** out) {
  return guarded([&] {
    require(host, "host");
    require(out, "out");
    *out = new syncbn_device_communicator{
        DeviceCommunicator::staged(host->group, capi::to_deadlines(timeout_seconds))};
  });
}

syncbn_status syncbn_device_communicator_nccl(const syncbn_communicator* bootstrap,
                                              double timeout_seconds,
                                              syncbn_device_communicator** out) {
  return guarded([&] {
    require(bootstrap, "bootstrap");
    require(out, "out");
    *out = new syncbn_device_communicator{
        DeviceCommunicator::nccl(bootstrap->group, capi::to_deadlines(timeout_seconds))};
  });
}

syncbn_status syncbn_device_communicator_split(const syncbn_device_communicator* group, int color,
                                               syncbn_device_communicator** out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    *out = new syncbn_device_communicator{group->group.split(color)};
  });
}

syncbn_status syncbn_device_communicator_all_reduce(const syncbn_device_communicator* group,
                                                    double* values, size_t length,
                                                    syncbn_cuda_stream stream) {
  return guarded([&] {
    require(group, "group");
    require(values, "values");
    capi::to_span(values, length, "values");
    group->group.all_reduce(values, length, stream);
  });
}

syncbn_status syncbn_device_communicator_poll(const syncbn_device_communicator* group) {
  return guarded([&] {
    require(group, "group");
    group->group.poll();
  });
}

syncbn_status syncbn_device_communicator_synchronize(const syncbn_device_communicator* group,
                                                     syncbn_cuda_stream stream) {
  return guarded([&] {
    require(group, "group");
    group->group.synchronize(stream);
  });
}

int syncbn_device_communicator_rank(const syncbn_device_communicator* group) {
  return capi::value_of(
      group, "group", [&] { return group->group.rank(); }, -1);
}

int syncbn_device_communicator_size(const syncbn_device_communicator* group) {
  return capi::value_of(group, "group", [&] { return group->group.size(); });
}

void syncbn_device_communicator_free(syncbn_device_communicator* group) {
  delete group;
}

// --- the layer --------------------------------------------------------------------------------

syncbn_status syncbn_device_batch_norm_new(int64_t channels,
                                           const syncbn_device_communicator* group,
                                           const syncbn_options* options,
                                           syncbn_device_batch_norm** out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    *out = new syncbn_device_batch_norm{
        DeviceBatchNorm(channels, group->group, capi::to_options(options))};
  });
}

void syncbn_device_batch_norm_free(syncbn_device_batch_norm* layer) {
  delete layer;
}

syncbn_status syncbn_device_saved_new(syncbn_device_saved** out) {
  return guarded([&] {
    require(out, "out");
    *out = new syncbn_device_saved{};
  });
}

void syncbn_device_saved_free(syncbn_device_saved* saved) {
  delete saved;
}

const double* syncbn_device_saved_mean(const syncbn_device_saved* saved) {
  return capi::value_of(saved, "saved", [&] { return saved->saved.mean(); });
}

const double* syncbn_device_saved_var(const syncbn_device_saved* saved) {
  return capi::value_of(saved, "saved", [&] { return saved->saved.var(); });
}

const double* syncbn_device_saved_invstd(const syncbn_device_saved* saved) {
  return capi::value_of(saved, "saved", [&] { return saved->saved.invstd(); });
}

syncbn_status syncbn_device_batch_norm_forward(syncbn_device_batch_norm* layer,
                                               const syncbn_tensor* x,
                                               const syncbn_tensor* residual,
                                               const float* position_weights,
                                               const syncbn_tensor* y, syncbn_device_saved* saved,
                                               syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(saved, "saved");
    const TensorView view = to_view(x, "x");
    if (residual != nullptr) {
      layer->layer.forward(view, to_view(residual, "residual"), to_view(y, "y"), saved->saved,
                           stream, position_weights);
    } else {
      layer->layer.forward(view, to_view(y, "y"), saved->saved, stream, position_weights);
    }
  });
}

syncbn_status syncbn_device_batch_norm_backward(
    syncbn_device_batch_norm* layer, const syncbn_device_saved* saved, const syncbn_tensor* x,
    const syncbn_tensor* y, const syncbn_tensor* dy, const float* position_weights,
    const syncbn_tensor* dx, const syncbn_tensor* dresidual, syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(saved, "saved");
    capi::require_together(y, dresidual);
    const TensorView view = to_view(x, "x");
    if (y != nullptr) {
      layer->layer.backward(saved->saved, view, to_view(y, "y"), to_view(dy, "dy"),
                            to_view(dx, "dx"), to_view(dresidual, "dresidual"), stream,
                            position_weights);
    } else {
      layer->layer.backward(saved->saved, view, to_view(dy, "dy"), to_view(dx, "dx"), stream,
                            position_weights);
    }
  });
}

syncbn_status syncbn_device_batch_norm_forward_in_place(syncbn_device_batch_norm* layer,
                                                        const syncbn_tensor* x,
                                                        const float* position_weights,
                                                        syncbn_device_saved* saved,
                                                        syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(saved, "saved");
    layer->layer.forward_in_place(to_view(x, "x"), saved->saved, stream, position_weights);
  });
}

syncbn_status syncbn_device_batch_norm_backward_in_place(
    syncbn_device_batch_norm* layer, const syncbn_device_saved* saved, const syncbn_tensor* y,
    const syncbn_tensor* dy, const float* position_weights, const syncbn_tensor* dx,
    syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(saved, "saved");
    layer->layer.backward_in_place(saved->saved, to_view(y, "y"), to_view(dy, "dy"),
                                   to_view(dx, "dx"), stream, position_weights);
  });
}

syncbn_status syncbn_device_batch_norm_infer(syncbn_device_batch_norm* layer,
                                             const syncbn_tensor* x, const syncbn_tensor* residual,
                                             const float* position_weights, const syncbn_tensor* y,
                                             syncbn_device_saved* saved,
                                             syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    const TensorView view = to_view(x, "x"), out = to_view(y, "y");
    DeviceBatchNorm& of = layer->layer;
    if (residual != nullptr) {
      const TensorView added = to_view(residual, "residual");
      saved != nullptr ? of.infer(view, added, out, saved->saved, stream, position_weights)
                       : of.infer(view, added, out, stream, position_weights);
    } else {
      saved != nullptr ? of.infer(view, out, saved->saved, stream, position_weights)
                       : of.infer(view, out, stream, position_weights);
    }
  });
}

double* syncbn_device_batch_norm_weight(syncbn_device_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.weight(); });
}

double* syncbn_device_batch_norm_bias(syncbn_device_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.bias(); });
}

double* syncbn_device_batch_norm_weight_grad(syncbn_device_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.weight_grad(); });
}

double* syncbn_device_batch_norm_bias_grad(syncbn_device_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.bias_grad(); });
}

double* syncbn_device_batch_norm_running_mean(syncbn_device_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.running_mean(); });
}

double* syncbn_device_batch_norm_running_var(syncbn_device_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.running_var(); });
}

int64_t* syncbn_device_batch_norm_num_batches_tracked(syncbn_device_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.num_batches_tracked(); });
}

syncbn_status syncbn_device_batch_norm_zero_grad(syncbn_device_batch_norm* layer,
                                                 syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    layer->layer.zero_grad(stream);
  });
}

syncbn_status syncbn_device_batch_norm_save(const syncbn_device_batch_norm* layer, const char* file,
                                            syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(file, "file");
    layer->layer.save(file, stream);
  });
}

syncbn_status syncbn_device_batch_norm_load(syncbn_device_batch_norm* layer, const char* file,
                                            syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(file, "file");
    layer->layer.load(file, stream);
  });
}
