// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "syncbn/error.hpp"

#include "capi/guarded.hpp"
#include "capi/handles.hpp"
#include "capi/structs.hpp"

using namespace syncbn;
using capi::guarded;
using capi::require;
using capi::to_optional_view;
using capi::to_view;
using capi::to_weight;

namespace {

double* data_or_null(std::span<double> values) {
  return values.empty() ? nullptr : values.data();
}

/// Calls body(call) for `count` calls that lie as far apart as the first one says is their size.
template <class Call, class Body>
void for_each_call(const Call* calls, size_t count, Body body) {
  if (count == 0) {
    return;
  }
  const std::size_t apart = capi::read_struct(calls, "calls[0]", Call{}).size;
  const std::span<const std::byte> all = capi::to_bytes(calls, count, apart, "calls");
  for (std::size_t k = 0; k < count; ++k) {
    const std::string name = "calls[" + std::to_string(k) + "]";
    const Call call = capi::read_struct(reinterpret_cast<const Call*>(all.data() + k * apart),
                                        name.c_str(), Call{});
    if (call.size != apart) {
      throw InvalidArgument(name + ".size is " + std::to_string(call.size) +
                            " (that of calls[0] is " + std::to_string(apart) + ")");
    }
    require(call.layer, "layer");
    require(call.saved, "saved");
    body(call);
  }
}

}  // namespace

syncbn_status syncbn_batch_norm_new(int64_t channels, const syncbn_communicator* group,
                                    const syncbn_options* options, syncbn_batch_norm** out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    *out = new syncbn_batch_norm{BatchNorm(channels, group->group, capi::to_options(options))};
  });
}

void syncbn_batch_norm_free(syncbn_batch_norm* layer) {
  delete layer;
}

syncbn_status syncbn_saved_new(syncbn_saved** out) {
  return guarded([&] {
    require(out, "out");
    *out = new syncbn_saved{};
  });
}

void syncbn_saved_free(syncbn_saved* saved) {
  delete saved;
}

syncbn_status syncbn_batch_norm_forward(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                        const syncbn_tensor* residual,
                                        const float* position_weights, const syncbn_tensor* y,
                                        syncbn_saved* saved) {
  return guarded([&] {
    require(layer, "layer");
    require(saved, "saved");
    const TensorView view = to_view(x, "x");
    if (residual != nullptr) {
      layer->layer.forward(view, to_view(residual, "residual"), to_view(y, "y"), saved->saved,
                           to_weight(position_weights, view));
    } else {
      layer->layer.forward(view, to_view(y, "y"), saved->saved, to_weight(position_weights, view));
    }
  });
}

syncbn_status syncbn_batch_norm_backward(syncbn_batch_norm* layer, const syncbn_saved* saved,
                                         const syncbn_tensor* x, const syncbn_tensor* y,
                                         const syncbn_tensor* dy, const float* position_weights,
                                         const syncbn_tensor* dx, const syncbn_tensor* dresidual) {
  return guarded([&] {
    require(layer, "layer");
    require(saved, "saved");
    capi::require_together(y, dresidual);
    const TensorView view = to_view(x, "x");
    if (y != nullptr) {
      layer->layer.backward(saved->saved, view, to_view(y, "y"), to_view(dy, "dy"),
                            to_view(dx, "dx"), to_view(dresidual, "dresidual"),
                            to_weight(position_weights, view));
    } else {
      layer->layer.backward(saved->saved, view, to_view(dy, "dy"), to_view(dx, "dx"),
                            to_weight(position_weights, view));
    }
  });
}

syncbn_status syncbn_forward_together(const syncbn_forward_call* calls, size_t count) {
  return guarded([&] {
    std::vector<ForwardCall> forwards;
    for_each_call(calls, count, [&](const syncbn_forward_call& call) {
      const TensorView x = to_view(call.x, "x");
      forwards.push_back({call.layer->layer, x, to_view(call.y, "y"), call.saved->saved,
                          to_optional_view(call.residual, "residual"),
                          to_weight(call.position_weights, x)});
    });
    forward_together(forwards);
  });
}

syncbn_status syncbn_backward_together(const syncbn_backward_call* calls, size_t count) {
  return guarded([&] {
    std::vector<BackwardCall> backwards;
    for_each_call(calls, count, [&](const syncbn_backward_call& call) {
      const TensorView x = to_view(call.x, "x");
      backwards.push_back({.layer = call.layer->layer,
                           .saved = call.saved->saved,
                           .x = x,
                           .dy = to_view(call.dy, "dy"),
                           .dx = to_view(call.dx, "dx"),
                           .y = to_optional_view(call.y, "y"),
                           .dresidual = to_optional_view(call.dresidual, "dresidual"),
                           .position_weights = to_weight(call.position_weights, x)});
    });
    backward_together(backwards);
  });
}

syncbn_status syncbn_batch_norm_forward_in_place(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                                 const float* position_weights,
                                                 syncbn_saved* saved) {
  return guarded([&] {
    require(layer, "layer");
    require(saved, "saved");
    const TensorView view = to_view(x, "x");
    layer->layer.forward_in_place(view, saved->saved, to_weight(position_weights, view));
  });
}

syncbn_status syncbn_batch_norm_backward_in_place(syncbn_batch_norm* layer,
                                                  const syncbn_saved* saved, const syncbn_tensor* y,
                                                  const syncbn_tensor* dy,
                                                  const float* position_weights,
                                                  const syncbn_tensor* dx) {
  return guarded([&] {
    require(layer, "layer");
    require(saved, "saved");
    const TensorView view = to_view(y, "y");
    layer->layer.backward_in_place(saved->saved, view, to_view(dy, "dy"), to_view(dx, "dx"),
                                   to_weight(position_weights, view));
  });
}

syncbn_status syncbn_batch_norm_infer(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                      const syncbn_tensor* residual, const float* position_weights,
                                      const syncbn_tensor* y, syncbn_saved* saved) {
  return guarded([&] {
    require(layer, "layer");
    const TensorView view = to_view(x, "x"), out = to_view(y, "y");
    const PositionWeights weights = to_weight(position_weights, view);
    BatchNorm& of = layer->layer;
    if (residual != nullptr) {
      const TensorView added = to_view(residual, "residual");
      saved != nullptr ? of.infer(view, added, out, saved->saved, weights)
                       : of.infer(view, added, out, weights);
    } else {
      saved != nullptr ? of.infer(view, out, saved->saved, weights) : of.infer(view, out, weights);
    }
  });
}

double* syncbn_batch_norm_weight(syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return data_or_null(layer->layer.weight()); });
}

double* syncbn_batch_norm_bias(syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return data_or_null(layer->layer.bias()); });
}

double* syncbn_batch_norm_weight_grad(syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return data_or_null(layer->layer.weight_grad()); });
}

double* syncbn_batch_norm_bias_grad(syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return data_or_null(layer->layer.bias_grad()); });
}

double* syncbn_batch_norm_running_mean(syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return data_or_null(layer->layer.running_mean()); });
}

double* syncbn_batch_norm_running_var(syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return data_or_null(layer->layer.running_var()); });
}

int64_t syncbn_batch_norm_num_batches_tracked(const syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.num_batches_tracked(); });
}

int64_t syncbn_batch_norm_pivot_retries(const syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.pivot_retries(); });
}

void syncbn_batch_norm_zero_grad(syncbn_batch_norm* layer) {
  guarded([&] {
    require(layer, "layer");
    layer->layer.zero_grad();
  });
}

syncbn_status syncbn_batch_norm_save(const syncbn_batch_norm* layer, const char* file) {
  return guarded([&] {
    require(layer, "layer");
    require(file, "file");
    layer->layer.save(file);
  });
}

syncbn_status syncbn_batch_norm_load(syncbn_batch_norm* layer, const char* file) {
  return guarded([&] {
    require(layer, "layer");
    require(file, "file");
    layer->layer.load(file);
  });
}
