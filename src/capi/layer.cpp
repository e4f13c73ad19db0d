// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "syncbn/c/device.h"
#include "syncbn/error.hpp"

#include "capi/device_handles.hpp"
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

template <class T>
T* data_or_null(std::span<T> values) {
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
    require(call.record, "record");
    body(call);
  }
}

std::size_t channels_of(const syncbn_batch_norm& layer) {
  return static_cast<std::size_t>(layer.layer.channels());
}

struct NamedArray {
  const char* name;
  double* array;
  bool has;  ///< the layer has it
};

std::array<NamedArray, 4> arrays_of(const syncbn_state& state, const BatchNormOptions& options) {
  return {{{"weight", state.weight, options.affine},
           {"bias", state.bias, options.affine},
           {"running_mean", state.running_mean, options.track_running_stats},
           {"running_var", state.running_var, options.track_running_stats}}};
}

}  // namespace

syncbn_status syncbn_batch_norm_new(int64_t channels, const syncbn_communicator* group,
                                    const syncbn_options* options, syncbn_batch_norm** out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    const capi::LayerOptions wanted = capi::to_options(options);
    *out = new syncbn_batch_norm{BatchNorm(channels, group->group, wanted.options, wanted.memory)};
  });
}

syncbn_status syncbn_batch_norm_new_on_device(int64_t channels,
                                              const syncbn_device_communicator* group,
                                              const syncbn_options* options,
                                              syncbn_batch_norm** out) {
  return guarded([&] {
    require(group, "group");
    require(out, "out");
    const capi::LayerOptions wanted = capi::to_options(options);
    *out = new syncbn_batch_norm{BatchNorm(channels, group->group, wanted.options, wanted.memory)};
  });
}

syncbn_status syncbn_batch_norm_use(syncbn_batch_norm* layer, const syncbn_layer_memory* memory) {
  return guarded([&] {
    require(layer, "layer");
    const syncbn_layer_memory given =
        capi::read_struct(memory, "memory", syncbn_layer_memory SYNCBN_LAYER_MEMORY_INIT);
    const auto view = [&](const syncbn_array& array) {
      return array.data == nullptr ? ArrayView()
                                   : ArrayView(array.data, capi::to_dtype(array.dtype),
                                               layer->layer.channels(), layer->layer.device());
    };
    layer->layer.use({.weight = view(given.weight),
                      .bias = view(given.bias),
                      .weight_grad = view(given.weight_grad),
                      .bias_grad = view(given.bias_grad),
                      .running_mean = view(given.running_mean),
                      .running_var = view(given.running_var),
                      .num_batches_tracked = given.num_batches_tracked});
  });
}

void syncbn_batch_norm_free(syncbn_batch_norm* layer) {
  delete layer;
}

syncbn_status syncbn_forward_record_new(syncbn_forward_record** out) {
  return guarded([&] {
    require(out, "out");
    *out = new syncbn_forward_record{};
  });
}

syncbn_status syncbn_forward_record_new_in(double* memory, int64_t channels, syncbn_device device,
                                           syncbn_forward_record** out) {
  return guarded([&] {
    require(memory, "memory");
    require(out, "out");
    *out = new syncbn_forward_record{ForwardRecord(memory, channels, capi::to_device(device))};
  });
}

size_t syncbn_forward_record_length(int64_t channels) {
  return channels < 1 || channels > Shape::most_channels ? 0 : ForwardRecord::length(channels);
}

void syncbn_forward_record_free(syncbn_forward_record* record) {
  delete record;
}

const double* syncbn_forward_record_mean(const syncbn_forward_record* record) {
  return capi::value_of(record, "record", [&] { return data_or_null(record->record.mean()); });
}

const double* syncbn_forward_record_var(const syncbn_forward_record* record) {
  return capi::value_of(record, "record", [&] { return data_or_null(record->record.var()); });
}

const double* syncbn_forward_record_invstd(const syncbn_forward_record* record) {
  return capi::value_of(record, "record", [&] { return data_or_null(record->record.invstd()); });
}

const double* syncbn_forward_record_count(const syncbn_forward_record* record) {
  return capi::value_of(record, "record", [&] { return data_or_null(record->record.count()); });
}

syncbn_status syncbn_batch_norm_forward(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                        const syncbn_tensor* residual,
                                        const float* position_weights, const syncbn_tensor* y,
                                        syncbn_forward_record* record, syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(record, "record");
    const TensorView view = to_view(x, "x");
    layer->layer.forward(view, to_view(y, "y"), record->record,
                         {.residual = to_optional_view(residual, "residual"),
                          .position_weights = to_weight(position_weights, view),
                          .stream = stream});
  });
}

syncbn_status syncbn_batch_norm_backward(syncbn_batch_norm* layer,
                                         const syncbn_forward_record* record,
                                         const syncbn_tensor* x, const syncbn_tensor* y,
                                         const syncbn_tensor* dy, const float* position_weights,
                                         const syncbn_tensor* dx, const syncbn_tensor* dresidual,
                                         syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(record, "record");
    const TensorView view = to_view(x, "x");
    layer->layer.backward(record->record, view, to_view(dy, "dy"), to_view(dx, "dx"),
                          {.y = to_optional_view(y, "y"),
                           .dresidual = to_optional_view(dresidual, "dresidual"),
                           .position_weights = to_weight(position_weights, view),
                           .stream = stream});
  });
}

syncbn_status syncbn_forward_together(const syncbn_forward_call* calls, size_t count) {
  return guarded([&] {
    std::vector<ForwardCall> forwards;
    for_each_call(calls, count, [&](const syncbn_forward_call& call) {
      const TensorView x = to_view(call.x, "x");
      forwards.push_back({.layer = call.layer->layer,
                          .x = x,
                          .y = to_view(call.y, "y"),
                          .record = call.record->record,
                          .extras = {.residual = to_optional_view(call.residual, "residual"),
                                     .position_weights = to_weight(call.position_weights, x)}});
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
                           .record = call.record->record,
                           .x = x,
                           .dy = to_view(call.dy, "dy"),
                           .dx = to_view(call.dx, "dx"),
                           .extras = {.y = to_optional_view(call.y, "y"),
                                      .dresidual = to_optional_view(call.dresidual, "dresidual"),
                                      .position_weights = to_weight(call.position_weights, x)}});
    });
    backward_together(backwards);
  });
}

syncbn_status syncbn_batch_norm_forward_in_place(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                                 const float* position_weights,
                                                 syncbn_forward_record* record,
                                                 syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(record, "record");
    const TensorView view = to_view(x, "x");
    layer->layer.forward_in_place(
        view, record->record,
        {.position_weights = to_weight(position_weights, view), .stream = stream});
  });
}

syncbn_status syncbn_batch_norm_backward_in_place(syncbn_batch_norm* layer,
                                                  const syncbn_forward_record* record,
                                                  const syncbn_tensor* y, const syncbn_tensor* dy,
                                                  const float* position_weights,
                                                  const syncbn_tensor* dx,
                                                  syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(record, "record");
    const TensorView view = to_view(y, "y");
    layer->layer.backward_in_place(
        record->record, view, to_view(dy, "dy"), to_view(dx, "dx"),
        {.position_weights = to_weight(position_weights, view), .stream = stream});
  });
}

syncbn_status syncbn_batch_norm_infer(syncbn_batch_norm* layer, const syncbn_tensor* x,
                                      const syncbn_tensor* residual, const float* position_weights,
                                      const syncbn_tensor* y, syncbn_forward_record* record,
                                      syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    const TensorView view = to_view(x, "x"), out = to_view(y, "y");
    const ForwardExtras extras{.residual = to_optional_view(residual, "residual"),
                               .position_weights = to_weight(position_weights, view),
                               .stream = stream};
    if (record != nullptr) {
      layer->layer.infer(view, out, record->record, extras);
    } else {
      layer->layer.infer(view, out, extras);
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

int64_t* syncbn_batch_norm_num_batches_tracked(syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.num_batches_tracked(); });
}

int64_t syncbn_batch_norm_pivot_retries(const syncbn_batch_norm* layer) {
  return capi::value_of(layer, "layer", [&] { return layer->layer.pivot_retries(); });
}

syncbn_status syncbn_batch_norm_zero_grad(syncbn_batch_norm* layer, syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    layer->layer.zero_grad(stream);
  });
}

syncbn_status syncbn_batch_norm_get_state(const syncbn_batch_norm* layer, syncbn_state* state,
                                          syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    const syncbn_state given = capi::read_struct(state, "state", syncbn_state SYNCBN_STATE_INIT);
    StateDict saved;
    layer->layer.save_state(saved, {}, stream);
    std::vector<std::pair<std::vector<double>, std::span<double>>> copies;
    for (const auto& [name, array, has] : arrays_of(given, layer->layer.options())) {
      if (has) {
        copies.emplace_back(saved.tensors.at(name).as_doubles(name),
                            capi::to_span(array, channels_of(*layer), name));
      }
    }
    for (const auto& [values, array] : copies) {
      std::ranges::copy(values, array.begin());
    }
    if (const auto entry = saved.tensors.find("num_batches_tracked");
        entry != saved.tensors.end()) {
      state->num_batches_tracked = entry->second.as_integer("num_batches_tracked");
    }
  });
}

syncbn_status syncbn_batch_norm_set_state(syncbn_batch_norm* layer, const syncbn_state* state,
                                          syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    const syncbn_state given = capi::read_struct(state, "state", syncbn_state SYNCBN_STATE_INIT);
    StateDict loaded;
    for (const auto& [name, array, has] : arrays_of(given, layer->layer.options())) {
      if (has) {
        const auto values = capi::to_span(array, channels_of(*layer), name);
        loaded.tensors[name] = StateTensor::from(std::vector(values.begin(), values.end()));
      }
    }
    loaded.tensors["num_batches_tracked"] = StateTensor::from(given.num_batches_tracked);
    layer->layer.load_state(loaded, {}, stream);
  });
}

syncbn_status syncbn_batch_norm_save(const syncbn_batch_norm* layer, const char* file,
                                     syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(file, "file");
    layer->layer.save(file, stream);
  });
}

syncbn_status syncbn_batch_norm_load(syncbn_batch_norm* layer, const char* file,
                                     syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    require(file, "file");
    layer->layer.load(file, stream);
  });
}
