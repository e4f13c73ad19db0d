// SPDX-License-Identifier: Apache-2.0
#include "bn/device/phases.hpp"

#include <cstddef>

namespace syncbn::bn {
namespace {

/// Holds the memory of one phase: what kernels multiply and add, [C] each, and then the partial
/// sums that kernels take of tensors like x, if they take any.
struct Working {
  double* scale;
  double* shift;
  double* mean_dz;
  double* grad_slope;
  void* partial;
};

Working working_memory(std::int64_t channels, std::size_t partial_bytes, const OnDevice& on) {
  constexpr std::size_t arrays = 4, alignment = 256;
  const std::size_t bytes = arrays * static_cast<std::size_t>(channels) * sizeof(double);
  const std::size_t before = (bytes + alignment - 1) / alignment * alignment;
  auto* const first =
      static_cast<std::byte*>(on.scratch.on_device(before + partial_bytes, on.device));
  auto* const scale = reinterpret_cast<double*>(first);
  return {scale, scale + channels, scale + 2 * channels, scale + 3 * channels, first + before};
}

Working working_memory(const ConstTensorView& x, const OnDevice& on) {
  return working_memory(x.shape().c,
                        kernels::cuda::workspace_bytes(x.shape(), x.dtype(), x.layout()), on);
}

/// Puts the coefficients on the stream, and returns where they will be.
Coefficients put_coefficients(const DeviceStatistics& of, std::int64_t channels,
                              const Working& working, const OnDevice& on) {
  kernels::cuda::run(
      channels::SetAffineOfBatch{.range = {0, channels},
                                 .invstd = of.invstd,
                                 .affine = {of.gamma, of.beta, working.scale, working.shift}},
      on.stream);
  return {of.mean, working.scale, working.shift};
}

}  // namespace

void forward_sums(const ConstTensorView& x, const double* pivot, double* sums,
                  PositionWeights position_weights, const OnDevice& on) {
  kernels::cuda::forward_sums(
      {.x = x, .weight = data_or_null(position_weights), .pivot = pivot, .sums = sums},
      working_memory(x, on).partial, on.stream);
}

void normalize(const ForwardArguments& arguments, const DeviceStatistics& statistics,
               Activation activation, const OnDevice& on) {
  const std::int64_t channels = arguments.x.shape().c;
  const Working working = working_memory(channels, 0, on);
  const Coefficients of_elements = put_coefficients(statistics, channels, working, on);
  kernels::cuda::normalize({.x = arguments.x,
                            .weight = data_or_null(arguments.position_weights),
                            .mean = of_elements.mean,
                            .scale = of_elements.scale,
                            .shift = of_elements.shift,
                            .residual = arguments.residual ? arguments.residual->data() : nullptr,
                            .negative_slope = activation.negative_slope,
                            .y = arguments.y.data()},
                           on.stream);
}

void backward_sums(const BackwardArguments& arguments, const DeviceStatistics& statistics,
                   Activation activation, double* sums, const OnDevice& on) {
  const Working working = working_memory(arguments.x, on);
  const Coefficients of_elements = put_coefficients(statistics, arguments.x.shape().c, working, on);
  kernels::cuda::backward_sums(
      {.upstream = upstream_of(arguments, of_elements, activation), .sums = sums}, working.partial,
      on.stream);
}

void input_gradient(const BackwardArguments& arguments, const DeviceStatistics& statistics,
                    Activation activation, const double* sums, const OnDevice& on) {
  const std::int64_t channels = arguments.x.shape().c;
  const Working working = working_memory(channels, 0, on);
  const Coefficients of_elements = put_coefficients(statistics, channels, working, on);
  kernels::cuda::finalize_backward({.channels = channels,
                                    .sums = sums,
                                    .invstd = statistics.invstd,
                                    .own_sums = sums,
                                    .frozen = false,
                                    .mean_dz = working.mean_dz,
                                    .grad_slope = working.grad_slope,
                                    .dgamma = {},
                                    .dbeta = {}},
                                   on.stream);
  kernels::cuda::input_gradient(
      {.upstream = upstream_of(arguments, of_elements, activation),
       .mean_dz = working.mean_dz,
       .grad_slope = working.grad_slope,
       .dx = arguments.dx.data(),
       .dresidual = arguments.dresidual ? arguments.dresidual->data() : nullptr},
      on.stream);
}

void add_parameter_gradients(std::int64_t channels, const double* sums, const double* invstd,
                             const channels::Floats& weight_grad, const channels::Floats& bias_grad,
                             const OnDevice& on) {
  const Working working = working_memory(channels, 0, on);
  kernels::cuda::finalize_backward({.channels = channels,
                                    .sums = sums,
                                    .invstd = invstd,
                                    .own_sums = sums,
                                    .frozen = false,
                                    .mean_dz = working.mean_dz,
                                    .grad_slope = working.grad_slope,
                                    .dgamma = weight_grad,
                                    .dbeta = bias_grad},
                                   on.stream);
}

void finalize_batch(kernels::cuda::Finalize next, const StatisticsSpans& out, const OnDevice& on) {
  const Working working = working_memory(next.channels, 0, on);
  next.out = {out.mean.data(), out.var.data(), out.invstd.data(),
              working.scale,   working.shift,  out.count};
  kernels::cuda::finalize(next, on.stream);
}

}  // namespace syncbn::bn
