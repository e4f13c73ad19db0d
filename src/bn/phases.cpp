// SPDX-License-Identifier: Apache-2.0
#include "syncbn/phases.hpp"

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/host/phases.hpp"
#include "bn/phase_call.hpp"
#include "bn/validate.hpp"
#include "channels/finalize.hpp"
#include "channels/for_each.hpp"
#include "channels/pivot.hpp"

namespace syncbn {
namespace {

using bn::CallMemory;
using bn::Memory;
using bn::memory_of;
using bn::on_device;
using bn::require_aligned;
using bn::require_all_held;
using bn::require_apart;
using bn::require_length;
using bn::require_like_x;
using bn::require_slope;
using bn::require_sound;
using bn::require_sums_about;
using bn::ScratchOf;
using bn::to_floats;

std::size_t channels_of(const ConstTensorView& x) {
  return static_cast<std::size_t>(x.shape().c);
}

void validate(const ConstTensorView& x, const StatisticsView& statistics, const Affine& affine,
              Activation activation) {
  const std::size_t channels = channels_of(x);
  require_length(statistics.mean.size(), channels, "statistics.mean", x);
  require_length(statistics.invstd.size(), channels, "statistics.invstd", x);
  require_aligned(memory_of("statistics.mean", statistics.mean));
  require_aligned(memory_of("statistics.invstd", statistics.invstd));
  if (!affine.gamma.empty() || !affine.beta.empty()) {
    bn::require_array("gamma", affine.gamma, x.shape().c, x.device());
    bn::require_array("beta", affine.beta, x.shape().c, x.device());
  }
  require_slope(activation);
  require_all_held(x.device(), {memory_of("x", x), memory_of("statistics.mean", statistics.mean),
                                memory_of("statistics.invstd", statistics.invstd),
                                memory_of("gamma", affine.gamma), memory_of("beta", affine.beta)});
}

void require_apart_from(const Memory& written, const StatisticsView& statistics,
                        const Affine& affine) {
  require_apart(written, {memory_of("statistics.mean", statistics.mean),
                          memory_of("statistics.invstd", statistics.invstd),
                          memory_of("gamma", affine.gamma), memory_of("beta", affine.beta)});
}

void validate(const BackwardContext& context) {
  const ConstTensorView& x = context.x;
  validate(x, context.statistics, context.affine, context.activation);
  require_like_x(x, context.dy, "dy");
  if (context.y) {
    require_like_x(x, *context.y, "y");
  }
  require_all_held(x.device(),
                   {memory_of("dy", context.dy), context.y ? memory_of("y", *context.y) : Memory(),
                    memory_of("position_weights", context.position_weights)});
  if (context.from_output) {
    bn::require_invertible(
        context.activation,
        x.device().is_cpu() ? to_floats(context.affine.gamma) : channels::ConstFloats(),
        x.shape().c);
    if (context.y) {
      throw InvalidArgument("y and from_output (x is the output then). Leave y out.");
    }
  }
}

void require_pivot(std::span<const double> pivot, DType dtype) {
  for (std::size_t c = 0; c < pivot.size(); ++c) {
    if (pivot[c] != channels::to_pivot(pivot[c], dtype)) {
      throw InvalidArgument("pivot[" + std::to_string(c) + "] = " + std::to_string(pivot[c]) +
                            " is not a finite float (of all types but f64, sums are about a "
                            "float). Round it.");
    }
  }
}

/// Requires that there are as many weights as positions, and on the CPU that they are weights.
/// Returns what they count there.
double require_weights(const ConstTensorView& x, PositionWeights position_weights) {
  if (x.device().is_cpu()) {
    return bn::count_of(x, position_weights);
  }
  bn::require_count(position_weights, x);
  return 0;
}

bn::BackwardArguments arguments_of(const BackwardContext& context, const TensorView& dx,
                                   const std::optional<TensorView>& dresidual) {
  return {.x = context.x,
          .dy = context.dy,
          .dx = dx,
          .y = context.y,
          .dresidual = dresidual,
          .position_weights = context.position_weights,
          .in_place = context.from_output};
}

/// Computes scale and shift of all channels in the CPU's memory.
bn::Coefficients coefficients_of(const StatisticsView& statistics, const Affine& affine,
                                 Scratch::Impl& scratch) {
  const std::size_t channels = statistics.invstd.size();
  double* const scale = scratch.doubles(4 * channels);
  double* const shift = scale + channels;
  const channels::SetAffine<> set{to_floats(affine.gamma), to_floats(affine.beta), scale, shift};
  for (std::size_t c = 0; c < channels; ++c) {
    set.of_channel(static_cast<std::int64_t>(c), statistics.invstd[c]);
  }
  return {statistics.mean.data(), scale, shift};
}

bn::DeviceStatistics device_statistics(const StatisticsView& statistics, const Affine& affine) {
  return {statistics.mean.data(), statistics.invstd.data(), to_floats(affine.gamma),
          to_floats(affine.beta)};
}

}  // namespace

void forward_sums(ConstTensorView x, std::span<const double> pivot, std::span<double> sums,
                  PositionWeights position_weights, const PhaseOptions& options) {
  const DefaultArithmetic arithmetic;
  require_length(pivot.size(), channels_of(x), "pivot", x);
  require_length(sums.size(), sums_length(x.shape().c), "sums", x);
  const std::array read = {memory_of("x", x), memory_of("position_weights", position_weights),
                           memory_of("pivot", pivot)};
  require_aligned(memory_of("sums", sums));
  for (const Memory& memory : read) {
    require_aligned(memory);
    require_apart(memory_of("sums", sums), {memory});
    require_all_held(x.device(), {memory});
  }
  require_all_held(x.device(), {memory_of("sums", sums)});
  const double count = require_weights(x, position_weights);
  if (!x.device().is_cpu()) {
    on_device(x.device(), options, [&](const bn::OnDevice& on) {
      bn::forward_sums(x, pivot.data(), sums.data(), position_weights, on);
    });
    return;
  }
  require_pivot(pivot, x.dtype());
  const ScratchOf scratch(options);
  bn::forward_sums(x, bn::all_channels(x), position_weights, pivot, sums, options.backend,
                   scratch->kernels);
  sums.back() = count;
}

void normalize(ConstTensorView x, StatisticsView statistics, Affine affine, Activation activation,
               std::optional<ConstTensorView> residual, TensorView y,
               PositionWeights position_weights, const PhaseOptions& options) {
  const DefaultArithmetic arithmetic;
  validate(x, statistics, affine, activation);
  require_like_x(x, y, "y");
  if (residual) {
    require_like_x(x, *residual, "residual");
  }
  const bn::ForwardArguments arguments{
      .x = x, .residual = residual, .y = y, .position_weights = position_weights};
  require_sound(memory_of(arguments));
  require_apart_from(memory_of("y", y), statistics, affine);
  require_all_held(x.device(),
                   {memory_of("y", y), residual ? memory_of("residual", *residual) : Memory(),
                    memory_of("position_weights", position_weights)});
  require_weights(x, position_weights);
  if (!x.device().is_cpu()) {
    on_device(x.device(), options, [&](const bn::OnDevice& on) {
      bn::normalize(arguments, device_statistics(statistics, affine), activation, on);
    });
    return;
  }
  const ScratchOf scratch(options);
  const bn::Coefficients coefficients = coefficients_of(statistics, affine, *scratch);
  bn::normalize({.x = x,
                 .weight = bn::data_or_null(position_weights),
                 .mean = coefficients.mean,
                 .scale = coefficients.scale,
                 .shift = coefficients.shift,
                 .residual = residual ? residual->data() : nullptr,
                 .negative_slope = activation.negative_slope,
                 .y = y.data()},
                bn::all_channels(x), statistics.invstd.data(), options.backend, scratch->kernels);
}

void backward_sums(const BackwardContext& context, std::span<double> sums,
                   const PhaseOptions& options) {
  const DefaultArithmetic arithmetic;
  validate(context);
  const ConstTensorView& x = context.x;
  require_length(sums.size(), sums_length(x.shape().c), "sums", x);
  require_aligned(memory_of("sums", sums));
  require_aligned(memory_of("position_weights", context.position_weights));
  require_apart(memory_of("sums", sums), {memory_of("x", x), memory_of("dy", context.dy),
                                          context.y ? memory_of("y", *context.y) : Memory(),
                                          memory_of("position_weights", context.position_weights)});
  require_apart_from(memory_of("sums", sums), context.statistics, context.affine);
  require_all_held(x.device(), {memory_of("sums", sums)});
  const double count = require_weights(x, context.position_weights);
  // The sums of a backward write no tensor.
  const TensorView nothing(nullptr, x.dtype(), {0, x.shape().c, 0}, x.layout(), x.device());
  const bn::BackwardArguments arguments = arguments_of(context, nothing, std::nullopt);
  if (!x.device().is_cpu()) {
    on_device(x.device(), options, [&](const bn::OnDevice& on) {
      bn::backward_sums(arguments, device_statistics(context.statistics, context.affine),
                        context.activation, sums.data(), on);
    });
    return;
  }
  const ScratchOf scratch(options);
  const bn::Coefficients coefficients =
      coefficients_of(context.statistics, context.affine, *scratch);
  bn::backward_sums({.upstream = bn::upstream_of(arguments, coefficients, context.activation),
                     .sums = sums.data()},
                    bn::all_channels(x), context.statistics.invstd.data(), options.backend,
                    scratch->kernels);
  sums.back() = count;
}

void input_gradient(const BackwardContext& context, std::span<const double> sums, TensorView dx,
                    std::optional<TensorView> dresidual, const PhaseOptions& options) {
  const DefaultArithmetic arithmetic;
  validate(context);
  const ConstTensorView& x = context.x;
  require_length(sums.size(), sums_length(x.shape().c), "sums", x);
  require_like_x(x, dx, "dx");
  if (dresidual) {
    require_like_x(x, *dresidual, "dresidual");
    if (context.from_output) {
      throw InvalidArgument(
          "dresidual and from_output (a residual cannot be told from the output).");
    }
  }
  const bn::BackwardArguments arguments = arguments_of(context, dx, dresidual);
  const CallMemory memory = memory_of(arguments);
  require_sound(memory);
  require_aligned(memory_of("sums", sums));
  for (const Memory& written : memory.written) {
    require_apart(written, {memory_of("sums", sums)});
    require_apart_from(written, context.statistics, context.affine);
    require_all_held(x.device(), {written});
  }
  require_all_held(x.device(), {memory_of("sums", sums)});
  require_weights(x, context.position_weights);
  if (!x.device().is_cpu()) {
    on_device(x.device(), options, [&](const bn::OnDevice& on) {
      bn::input_gradient(arguments, device_statistics(context.statistics, context.affine),
                         context.activation, sums.data(), on);
    });
    return;
  }
  const ScratchOf scratch(options);
  const bn::Coefficients coefficients =
      coefficients_of(context.statistics, context.affine, *scratch);
  const bn::ChannelRange all = bn::all_channels(x);
  const double* invstd = context.statistics.invstd.data();
  double* const mean_dz = scratch->doubles(4 * channels_of(x)) + 2 * all.size();
  double* const grad_slope = mean_dz + all.size();
  channels::take_channels(channels::SetGradientCoefficients{all.size(), sums.data(), invstd, false,
                                                            mean_dz, grad_slope},
                          all);
  bn::input_gradient({.upstream = bn::upstream_of(arguments, coefficients, context.activation),
                      .mean_dz = mean_dz,
                      .grad_slope = grad_slope,
                      .dx = dx.data(),
                      .dresidual = dresidual ? dresidual->data() : nullptr},
                     all, invstd, options.backend, scratch->kernels);
}

void add_parameter_gradients(std::span<const double> sums, std::span<const double> invstd,
                             ArrayView weight_grad, ArrayView bias_grad,
                             const PhaseOptions& options) {
  const DefaultArithmetic arithmetic;
  const Device device = weight_grad.device();
  const auto channels = static_cast<std::int64_t>(invstd.size());
  bn::require_array("weight_grad", weight_grad, channels, device);
  bn::require_array("bias_grad", bias_grad, channels, device);
  require_sums_about(sums, invstd);
  for (const Memory& written :
       {memory_of("weight_grad", weight_grad), memory_of("bias_grad", bias_grad)}) {
    require_apart(written, {memory_of("sums", sums), memory_of("invstd", invstd)});
    require_all_held(device, {written});
  }
  require_apart(memory_of("weight_grad", weight_grad), {memory_of("bias_grad", bias_grad)});
  require_all_held(device, {memory_of("sums", sums), memory_of("invstd", invstd)});
  if (!device.is_cpu()) {
    on_device(device, options, [&](const bn::OnDevice& on) {
      bn::add_parameter_gradients(channels, sums.data(), invstd.data(), to_floats(weight_grad),
                                  to_floats(bias_grad), on);
    });
    return;
  }
  channels::take_channels(
      channels::AddParameterGradients<>{channels, sums.data(), invstd.data(),
                                        to_floats(weight_grad), to_floats(bias_grad)},
      {0, channels});
}

}  // namespace syncbn
