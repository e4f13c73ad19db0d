// SPDX-License-Identifier: Apache-2.0
#include "capi/handles.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <string>

#include "syncbn/error.hpp"

#include "capi/guarded.hpp"
#include "capi/structs.hpp"

namespace syncbn::capi {
namespace {

[[noreturn]] void throw_unknown(const char* type, int value) {
  throw InvalidArgument(std::to_string(value) + " is no " + type);
}

Layout to_layout(syncbn_layout layout) {
  switch (layout) {
    case SYNCBN_CHANNELS_FIRST:
      return Layout::channels_first;
    case SYNCBN_CHANNELS_LAST:
      return Layout::channels_last;
  }
  throw_unknown("syncbn_layout", layout);
}

syncbn_communicator_options read(const syncbn_communicator_options* options) {
  const syncbn_communicator_options defaults = SYNCBN_COMMUNICATOR_OPTIONS_INIT;
  return options == nullptr ? defaults : read_struct(options, "options", defaults);
}

/// Returns none for 0, which stands for a default.
std::optional<std::chrono::milliseconds> to_milliseconds(double seconds, const char* name) {
  constexpr double longest = 1e9;
  if (seconds == 0) {
    return std::nullopt;
  }
  if (!(seconds > 0 && seconds <= longest)) {
    throw InvalidArgument(std::string("options.") + name + " = " + std::to_string(seconds) +
                          " (above 0, at most 1e9; 0 for the default)");
  }
  return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
}

}  // namespace

DType to_dtype(syncbn_dtype dtype) {
  switch (dtype) {
    case SYNCBN_F32:
      return DType::f32;
    case SYNCBN_F64:
      return DType::f64;
    case SYNCBN_F16:
      return DType::f16;
    case SYNCBN_BF16:
      return DType::bf16;
  }
  throw_unknown("syncbn_dtype", dtype);
}

void require_apart(std::span<const std::span<const double>> arrays, const char* names) {
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const std::span<const double> one = arrays[i];
    for (const std::span<const double> other : arrays.subspan(i + 1)) {
      if (std::less<>()(one.data(), other.data() + other.size()) &&
          std::less<>()(other.data(), one.data() + one.size())) {
        throw InvalidArgument(std::string(names) + " overlap. Give each memory of its own.");
      }
    }
  }
}

bool to_flag(int flag, const char* name) {
  if (flag != 0 && flag != 1) {
    throw InvalidArgument(std::string(name) + " = " + std::to_string(flag) + " (0 or 1)");
  }
  return flag == 1;
}

Device to_device(syncbn_device device) {
  if (device < SYNCBN_ON_CPU) {
    throw_unknown("syncbn_device", device);
  }
  return device == SYNCBN_ON_CPU ? Device::cpu() : Device::cuda(device - SYNCBN_ON_CUDA(0));
}

std::function<std::shared_ptr<void>(std::size_t)> to_allocate(
    void* (*allocate)(std::size_t bytes, void* user), void (*release)(void* memory, void* user),
    void* user) {
  if ((allocate == nullptr) != (release == nullptr)) {
    throw InvalidArgument("allocate and release go together (both, or both NULL)");
  }
  if (allocate == nullptr) {
    return {};
  }
  return [=](std::size_t bytes) {
    void* const memory = allocate(bytes, user);
    if (memory == nullptr) {
      throw std::bad_alloc();
    }
    return std::shared_ptr<void>(memory, [release, user](void* given) { release(given, user); });
  };
}

std::optional<double> to_momentum(double momentum) {
  return momentum == static_cast<double>(SYNCBN_AVERAGE_OF_ALL_BATCHES)
             ? std::nullopt
             : std::optional<double>(momentum);
}

Backend to_backend(syncbn_backend backend) {
  switch (backend) {
    case SYNCBN_CPU:
      return Backend::cpu;
    case SYNCBN_REFERENCE:
      return Backend::reference;
  }
  throw_unknown("syncbn_backend", backend);
}

TensorView to_view(const syncbn_tensor* tensor, const char* name) {
  const syncbn_tensor of = read_struct(tensor, name, syncbn_tensor{});
  try {
    return {of.data,
            to_dtype(of.dtype),
            {of.n, of.c, of.s},
            to_layout(of.layout),
            to_device(of.device)};
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(std::string(name) + ": " + error.what());
  }
}

std::optional<TensorView> to_optional_view(const syncbn_tensor* tensor, const char* name) {
  if (tensor == nullptr) {
    return std::nullopt;
  }
  return to_view(tensor, name);
}

PositionWeights to_weight(const float* position_weights, const TensorView& x) {
  return position_weights == nullptr
             ? PositionWeights()
             : PositionWeights(position_weights, static_cast<std::size_t>(x.shape().per_channel()));
}

LayerOptions to_options(const syncbn_options* given) {
  if (given == nullptr) {
    return {};
  }
  const syncbn_options options = read_struct(given, "options", syncbn_options SYNCBN_OPTIONS_INIT);
  require(options.name, "options.name");
  BatchNormOptions result;
  result.name = options.name;
  result.eps = options.eps;
  result.momentum = to_momentum(options.momentum);
  result.affine = to_flag(options.affine, "options.affine");
  result.track_running_stats = to_flag(options.track_running_stats, "options.track_running_stats");
  result.activation = {options.negative_slope};
  result.parameter_gradients =
      to_flag(options.group_parameter_gradients, "options.group_parameter_gradients")
          ? GradientScope::group
          : GradientScope::local;
  result.channel_blocks = options.channel_blocks;
  result.reproducibility = to_flag(options.exact, "options.exact")
                               ? Reproducibility::exact
                               : Reproducibility::rank_consistent;
  result.backend = to_backend(options.backend);
  result.compare_parameters = to_flag(options.compare_parameters, "options.compare_parameters");
  return {result, {.allocate = to_allocate(options.allocate, options.release, options.user)}};
}

Deadlines to_deadlines(const syncbn_communicator_options* options) {
  const syncbn_communicator_options given = read(options);
  const auto timeout = to_milliseconds(given.timeout_seconds, "timeout_seconds");
  const auto report = to_milliseconds(given.report_seconds, "report_seconds");
  Deadlines deadlines = timeout ? default_deadlines(*timeout) : default_deadlines();
  if (report) {
    deadlines.report = *report;
  }
  return deadlines;
}

syncbn_exchange exchange_of(const syncbn_communicator_options* options) {
  const syncbn_exchange exchange = read(options).exchange;
  if (exchange < SYNCBN_EXCHANGE_DEFAULT || exchange > SYNCBN_EXCHANGE_MPI) {
    throw_unknown("syncbn_exchange", exchange);
  }
  return exchange;
}

}  // namespace syncbn::capi
