// SPDX-License-Identifier: Apache-2.0
//
// clang-format off
// forward   forward_sums       one read of x
//           all_reduce         of 2C + 1 doubles
//           finalize           statistics, running statistics, the next pivot
//           normalize          one read of x, one write of y
// clang-format on
//
// With exact sums, the steps of exact.hpp take the place of the first two.

#include <optional>

#include "syncbn/device_batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/device/memory.hpp"
#include "bn/validate.hpp"

namespace syncbn {

using bn::DeviceState;
using bn::DeviceStatistics;
using bn::DeviceWorkspace;

struct DeviceBatchNorm::Forward {
  ConstTensorView x;
  std::optional<ConstTensorView> residual;
  TensorView y;
  const float* position_weights;
  bool in_place = false;

  comm::Given given() const {
    return in_place ? comm::Given::in_place : residual ? comm::Given::residual : comm::Given::x;
  }
};

void DeviceBatchNorm::forward(ConstTensorView x, TensorView y, DeviceSaved& saved,
                              CudaStream stream, const float* position_weights) {
  forward_with({x, std::nullopt, y, position_weights}, saved, stream);
}

void DeviceBatchNorm::forward(ConstTensorView x, ConstTensorView residual, TensorView y,
                              DeviceSaved& saved, CudaStream stream,
                              const float* position_weights) {
  forward_with({x, residual, y, position_weights}, saved, stream);
}

void DeviceBatchNorm::forward_in_place(TensorView x, DeviceSaved& saved, CudaStream stream,
                                       const float* position_weights) {
  require_invertible(options_.activation, {});
  forward_with({x, std::nullopt, x, position_weights, true}, saved, stream);
}

void DeviceBatchNorm::infer(ConstTensorView x, TensorView y, CudaStream stream,
                            const float* position_weights) {
  infer_with({x, std::nullopt, y, position_weights}, stream);
}

void DeviceBatchNorm::infer(ConstTensorView x, ConstTensorView residual, TensorView y,
                            CudaStream stream, const float* position_weights) {
  infer_with({x, residual, y, position_weights}, stream);
}

void DeviceBatchNorm::infer(ConstTensorView x, TensorView y, DeviceSaved& saved, CudaStream stream,
                            const float* position_weights) {
  infer_with({x, std::nullopt, y, position_weights}, saved, stream);
}

void DeviceBatchNorm::infer(ConstTensorView x, ConstTensorView residual, TensorView y,
                            DeviceSaved& saved, CudaStream stream, const float* position_weights) {
  infer_with({x, residual, y, position_weights}, saved, stream);
}

void DeviceBatchNorm::validate(const Forward& pass) const {
  require_channels(pass.x, channels_, options_.name);
  require_like_x(pass.x, pass.y, "y");
  if (pass.residual) {
    require_like_x(pass.x, *pass.residual, "residual");
  }
  require_sound(
      memory_of_forward(pass.x, pass.residual, pass.y, as_span(pass.position_weights, pass.x)));
}

void DeviceBatchNorm::forward_with(const Forward& pass, DeviceSaved& saved, CudaStream stream) {
  validate(pass);
  group_.sum().poll();
  working_->reserve(pass.x, !working_->exact);
  reserve(saved);
  const bool knows_enough = knows_mean_ || working_->exact;
  if (!knows_enough) {  // one more read of x finds the mean
    sum_over_group(comm::Operation::forward, pass, stream);
    finalize(*saved.statistics_, pass.x.dtype(), Moves::pivot, stream);
  }
  sum_over_group(knows_enough ? comm::Operation::forward : comm::Operation::second_sums, pass,
                 stream);
  finalize(*saved.statistics_, pass.x.dtype(), Moves::running_statistics, stream);
  const auto& statistics = saved.statistics_->arrays;
  normalize(pass, statistics[DeviceStatistics::mean], statistics[DeviceStatistics::scale],
            statistics[DeviceStatistics::shift], stream);
  knows_mean_ = true;
  save_pass(pass, saved);
  saved.forward_.forward = ++forwards_;
}

void DeviceBatchNorm::reserve(DeviceSaved& saved) const {
  if (!saved.statistics_ || saved.forward_.shape.c != channels_) {
    saved.statistics_ = std::make_unique<DeviceStatistics>(channels_);
  }
}

void DeviceBatchNorm::save_pass(const Forward& pass, DeviceSaved& saved) const {
  saved.forward_ = {.statistics = {},
                    .shape = pass.x.shape(),
                    .dtype = pass.x.dtype(),
                    .layout = pass.x.layout(),
                    .had_residual = pass.residual.has_value(),
                    .had_weight = pass.position_weights != nullptr,
                    .in_place = pass.in_place,
                    .layer = options_.name,
                    .layer_number = working_->layer.number};
}

void DeviceBatchNorm::sum_over_group(comm::Operation kind, const Forward& pass, CudaStream stream) {
  double* sums = working_->sums.data();
  auto* history = working_->history.as<std::uint64_t>();
  const bool alone = group_.size() == 1;  // with nobody to compare with
  if (!alone) {
    const bool compared = options_.compare_parameters;
    kernels::cuda::fingerprint({.channels = channels_,
                                .pivot = state_->pivot.as<double>(),
                                .running_mean = running_mean(),
                                .running_var = running_var(),
                                .gamma = compared ? weight() : nullptr,
                                .beta = compared ? bias() : nullptr,
                                .print = history},
                               stream);
  }
  const comm::Descriptor what{.operation = kind,
                              .layer = working_->layer.label,
                              .channels = channels_,
                              .dtype = pass.x.dtype(),
                              .shared = static_cast<std::uint64_t>(forwards_),
                              .options = working_->options,
                              .shared_on_device = alone ? nullptr : history,
                              .given = pass.given()};
  if (working_->exact) {
    if (!knows_mean_ && options_.track_running_stats) {
      kernels::cuda::run(channels::ExpectBatch{.range = {0, channels_},
                                               .running = state_->running(),
                                               .batches = num_batches_tracked(),
                                               .momentum = options_.momentum.value_or(1),
                                               .pivot = state_->pivot.as<double>(),
                                               .var = working_->exact->var()},
                         stream);
    }
    working_->exact->sum(group_.sum(), what,
                         bn::DeviceExact::Forward{.x = pass.x,
                                                  .position_weights = pass.position_weights,
                                                  .eps = options_.eps,
                                                  .pivot = state_->pivot.as<double>(),
                                                  .sums = sums},
                         stream);
    return;
  }
  kernels::cuda::forward_sums({.x = pass.x,
                               .weight = pass.position_weights,
                               .pivot = state_->pivot.as<double>(),
                               .sums = sums,
                               .workspace = working_->partial.data()},
                              stream);
  group_.sum().all_reduce(what, working_->sums.first(sums_length(channels_)), stream);
}

void DeviceBatchNorm::finalize(DeviceStatistics& statistics, DType dtype, Moves moves,
                               CudaStream stream) {
  std::optional<kernels::cuda::Running> running;
  if (options_.track_running_stats && moves == Moves::running_statistics) {
    running = {.arrays = state_->running(),
               .batches = num_batches_tracked(),
               .momentum = options_.momentum};
  }
  kernels::cuda::finalize({.channels = channels_,
                           .sums = working_->sums.data(),
                           .dtype = dtype,
                           .pivot = state_->pivot.as<double>(),
                           .eps = options_.eps,
                           .gamma = weight(),
                           .beta = bias(),
                           .mean = statistics.arrays[DeviceStatistics::mean],
                           .var = statistics.arrays[DeviceStatistics::var],
                           .invstd = statistics.arrays[DeviceStatistics::invstd],
                           .scale = statistics.arrays[DeviceStatistics::scale],
                           .shift = statistics.arrays[DeviceStatistics::shift],
                           .next_var = working_->exact ? working_->exact->var() : nullptr,
                           .running = running},
                          stream);
}

void DeviceBatchNorm::normalize(const Forward& pass, const double* mean, const double* scale,
                                const double* shift, CudaStream stream) {
  kernels::cuda::normalize({.x = pass.x,
                            .weight = pass.position_weights,
                            .mean = mean,
                            .scale = scale,
                            .shift = shift,
                            .residual = pass.residual ? pass.residual->data() : nullptr,
                            .negative_slope = options_.activation.negative_slope,
                            .y = pass.y.data()},
                           stream);
}

void DeviceBatchNorm::infer_with(const Forward& pass, CudaStream stream) {
  validate(pass);
  require_running_statistics();
  double* scale = working_->arrays[DeviceWorkspace::scale];
  double* shift = working_->arrays[DeviceWorkspace::shift];
  kernels::cuda::affine({.channels = channels_,
                         .var = running_var(),
                         .eps = options_.eps,
                         .gamma = weight(),
                         .beta = bias(),
                         .invstd = nullptr,
                         .scale = scale,
                         .shift = shift},
                        stream);
  normalize(pass, running_mean(), scale, shift, stream);
}

void DeviceBatchNorm::infer_with(const Forward& pass, DeviceSaved& saved, CudaStream stream) {
  validate(pass);
  require_running_statistics();
  reserve(saved);
  bn::Arrays<DeviceStatistics::count>& statistics = saved.statistics_->arrays;
  statistics.copy(DeviceStatistics::mean, state_->arrays, DeviceState::running_mean, stream);
  statistics.copy(DeviceStatistics::var, state_->arrays, DeviceState::running_var, stream);
  kernels::cuda::affine({.channels = channels_,
                         .var = statistics[DeviceStatistics::var],
                         .eps = options_.eps,
                         .gamma = weight(),
                         .beta = bias(),
                         .invstd = statistics[DeviceStatistics::invstd],
                         .scale = statistics[DeviceStatistics::scale],
                         .shift = statistics[DeviceStatistics::shift]},
                        stream);
  normalize(pass, statistics[DeviceStatistics::mean], statistics[DeviceStatistics::scale],
            statistics[DeviceStatistics::shift], stream);
  save_pass(pass, saved);
  saved.forward_.frozen = true;
  saved.forward_.forward = -1;  // infers are not counted: ranks may differ in how many they make
}

void DeviceBatchNorm::require_running_statistics() const {
  if (!options_.track_running_stats) {
    throw NotConfigured("layer '" + options_.name +
                        "' keeps no running statistics to infer with. Use forward, or "
                        "track_running_stats.");
  }
}

}  // namespace syncbn
