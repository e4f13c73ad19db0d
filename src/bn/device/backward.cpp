// SPDX-License-Identifier: Apache-2.0
//
// clang-format off
// backward  backward_sums      one read of x, dy
//           all_reduce         of 2C + 1 doubles
//           finalize_backward  coefficients, parameter gradients
//           input_gradient     one read of x, dy, one write of dx
// clang-format on
//
// With exact sums, the steps of exact.hpp take the place of the first two.

#include <optional>

#include "syncbn/device_batch_norm.hpp"

#include "bn/device/memory.hpp"
#include "bn/validate.hpp"

namespace syncbn {

using bn::DeviceStatistics;
using bn::DeviceWorkspace;

struct DeviceBatchNorm::Backward {
  BackwardContext context;
  TensorView dx;
  std::optional<TensorView> dresidual;
};

void DeviceBatchNorm::backward(const DeviceSaved& saved, ConstTensorView x, ConstTensorView dy,
                               TensorView dx, CudaStream stream, const float* position_weights) {
  backward_with({.context = {.x = x,
                             .dy = dy,
                             .statistics = saved.forward_.statistics,
                             .position_weights = as_span(position_weights, x)},
                 .dx = dx,
                 .dresidual = std::nullopt},
                saved, stream);
}

void DeviceBatchNorm::backward(const DeviceSaved& saved, ConstTensorView x, ConstTensorView y,
                               ConstTensorView dy, TensorView dx, TensorView dresidual,
                               CudaStream stream, const float* position_weights) {
  backward_with({.context = {.x = x,
                             .dy = dy,
                             .statistics = saved.forward_.statistics,
                             .y = y,
                             .position_weights = as_span(position_weights, x)},
                 .dx = dx,
                 .dresidual = dresidual},
                saved, stream);
}

void DeviceBatchNorm::backward_in_place(const DeviceSaved& saved, ConstTensorView y,
                                        ConstTensorView dy, TensorView dx, CudaStream stream,
                                        const float* position_weights) {
  backward_with({.context = {.x = y,
                             .dy = dy,
                             .statistics = saved.forward_.statistics,
                             .position_weights = as_span(position_weights, y),
                             .from_output = true},
                 .dx = dx,
                 .dresidual = std::nullopt},
                saved, stream);
}

void DeviceBatchNorm::backward_with(const Backward& pass, const DeviceSaved& saved,
                                    CudaStream stream) {
  const BackwardContext& context = pass.context;
  require_backward_of(saved.forward_, context, pass.dx, pass.dresidual, channels_, working_->layer);
  group_.sum().poll();
  const bool frozen = saved.forward_.frozen;
  const bool local = options_.parameter_gradients == GradientScope::local;
  const bool exact = working_->exact && !(frozen && local);
  working_->reserve(context.x, !exact);
  const auto& statistics = saved.statistics_->arrays;
  const kernels::Upstream upstream{
      .data = context.x,
      .source = context.from_output ? kernels::Source::output : kernels::Source::input,
      .weight = context.position_weights.data(),
      .dy = context.dy.data(),
      .y = context.y ? context.y->data() : nullptr,
      .mean = statistics[DeviceStatistics::mean],
      .scale = statistics[DeviceStatistics::scale],
      .shift = statistics[DeviceStatistics::shift],
      .negative_slope = options_.activation.negative_slope};
  double* sums = working_->sums.data();
  const comm::Descriptor what{.operation = comm::Operation::backward,
                              .layer = working_->layer.label,
                              .channels = channels_,
                              .dtype = context.x.dtype(),
                              .shared = static_cast<std::uint64_t>(saved.forward_.forward),
                              .options = working_->options,
                              .given = given_in(saved.forward_)};
  if (exact) {
    working_->exact->sum(group_.sum(), what,
                         bn::DeviceExact::Backward{.upstream = upstream,
                                                   .invstd = statistics[DeviceStatistics::invstd],
                                                   .sums = sums,
                                                   .own_sums = working_->own_sums.as<double>()},
                         stream);
  } else {
    kernels::cuda::backward_sums(
        {.upstream = upstream, .sums = sums, .workspace = working_->partial.data()}, stream);
    if (local) {
      working_->own_sums.copy(working_->sums.buffer(), working_->own_sums.bytes(), stream);
    }
    if (!(frozen && local)) {
      group_.sum().all_reduce(what, working_->sums.first(sums_length(channels_)), stream);
    }
  }
  double* mean_dz = working_->arrays[DeviceWorkspace::mean_dz];
  double* grad_slope = working_->arrays[DeviceWorkspace::grad_slope];
  kernels::cuda::finalize_backward({.channels = channels_,
                                    .sums = sums,
                                    .invstd = statistics[DeviceStatistics::invstd],
                                    .own_sums = local ? working_->own_sums.as<double>() : sums,
                                    .frozen = frozen,
                                    .mean_dz = mean_dz,
                                    .grad_slope = grad_slope,
                                    .dgamma = weight_grad(),
                                    .dbeta = bias_grad()},
                                   stream);
  kernels::cuda::input_gradient({.upstream = upstream,
                                 .mean_dz = mean_dz,
                                 .grad_slope = grad_slope,
                                 .dx = pass.dx.data(),
                                 .dresidual = pass.dresidual ? pass.dresidual->data() : nullptr},
                                stream);
}

}  // namespace syncbn
