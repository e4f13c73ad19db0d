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

#include "bn/device/place.hpp"
#include "bn/operations.hpp"
#include "comm/device/device_sum.hpp"
#include "comm/group/access.hpp"

namespace syncbn::bn {

void DevicePlace::forward(const ForwardArguments& arguments, ForwardRecord::Impl& record) {
  record.lay_out(layer_);
  take_statistics(forward_operation(arguments.given()), arguments, record.arrays);
  normalize(arguments, record.arrays);
  record.note_forward(layer_, arguments, 1);
}

void DevicePlace::infer_with_batch(const ForwardArguments& arguments) {
  working_.inferred.make_room(layer_, *this);
  working_.inferred.lay_out(layer_);
  take_statistics(infer_operation(arguments.given()), arguments, working_.inferred.arrays);
  normalize(arguments, working_.inferred.arrays);
}

void DevicePlace::infer_with_running(const ForwardArguments& arguments,
                                     ForwardRecord::Impl* record) {
  ForwardRecord::Impl& kept = record != nullptr ? *record : working_.inferred;
  kept.make_room(layer_, *this);
  kept.lay_out(layer_);
  kernels::cuda::run(channels::TakeRunningStatistics{.range = {0, layer_.channels},
                                                     .mean = layer_.state.running_mean,
                                                     .var = layer_.state.running_var,
                                                     .eps = layer_.options.eps,
                                                     .gamma = layer_.state.weight,
                                                     .beta = layer_.state.bias,
                                                     .out = kept.arrays},
                     arguments.stream);
  normalize(arguments, kept.arrays);
  if (record != nullptr) {
    record->note_infer(layer_, arguments);
  }
}

void DevicePlace::take_statistics(const comm::Operation& operation,
                                  const ForwardArguments& arguments,
                                  const channels::StatisticsArrays& out) {
  comm::Access::sum(group_).poll();
  working_.reserve(arguments.x, !layer_.is_exact(), *this);
  const bool knows_enough = layer_.knows_mean || layer_.is_exact();
  if (!knows_enough) {  // one more read of x finds the mean
    sum_over_group(operation, arguments);
    finalize(out, arguments.x.dtype(), Moves::pivot, arguments.stream);
  }
  sum_over_group(knows_enough ? operation : second_sums_operation(), arguments);
  finalize(out, arguments.x.dtype(), Moves::running_statistics, arguments.stream);
  layer_.knows_mean = true;
}

void DevicePlace::sum_over_group(const comm::Operation& operation,
                                 const ForwardArguments& arguments) {
  const StateArrays& state = layer_.state;
  const BatchNormOptions& options = layer_.options;
  const CudaStream stream = arguments.stream;
  double* sums = working_.sums.data();
  auto* history = working_.history.as<std::uint64_t>();
  const bool alone = group_.size() == 1;  // with nobody to compare with
  if (!alone) {
    const bool compared = options.compare_parameters;
    kernels::cuda::fingerprint({.channels = layer_.channels,
                                .pivot = state.pivot,
                                .running_mean = state.running_mean,
                                .running_var = state.running_var,
                                .gamma = compared ? state.weight : channels::Floats(),
                                .beta = compared ? state.bias : channels::Floats(),
                                .print = history},
                               stream);
  }
  static_assert(Fact::statistics == comm::fact_on_device);
  const std::uint64_t* const shared = alone ? nullptr : history;
  const comm::Descriptor what{.operation = &operation,
                              .subject = layer_.identity.label,
                              .count = layer_.channels,
                              .dtype = arguments.x.dtype(),
                              .options = layer_.options_text,
                              .facts = PassFacts{.forward = layer_.forwards}};
  if (!working_.exact) {
    kernels::cuda::forward_sums({.x = arguments.x,
                                 .weight = data_or_null(arguments.position_weights),
                                 .pivot = state.pivot,
                                 .sums = sums},
                                working_.partial.get(), stream);
    comm::Access::sum(group_).all_reduce(
        what, working_.sums.first(sums_length(layer_.channels), shared), stream);
    return;
  }
  if (!layer_.knows_mean && options.track_running_stats) {
    kernels::cuda::run(channels::ExpectBatch{.range = {0, layer_.channels},
                                             .running = state.running(),
                                             .batches = state.num_batches_tracked,
                                             .momentum = options.momentum.value_or(1),
                                             .dtype = arguments.x.dtype(),
                                             .pivot = state.pivot,
                                             .var = working_.exact->var()},
                       stream);
  }
  working_.exact->sum(
      comm::Access::sum(group_), what,
      DeviceExact::Forward{.x = arguments.x,
                           .position_weights = data_or_null(arguments.position_weights),
                           .eps = options.eps,
                           .pivot = state.pivot,
                           .sums = sums,
                           .shared = shared},
      stream);
}

void DevicePlace::finalize(const channels::StatisticsArrays& out, DType dtype, Moves moves,
                           CudaStream stream) {
  const StateArrays& state = layer_.state;
  std::optional<kernels::cuda::Running> running;
  if (layer_.options.track_running_stats && moves == Moves::running_statistics) {
    running = {.arrays = state.running(),
               .batches = state.num_batches_tracked,
               .momentum = layer_.options.momentum};
  }
  kernels::cuda::finalize({.channels = layer_.channels,
                           .sums = working_.sums.data(),
                           .dtype = dtype,
                           .pivot = state.pivot,
                           .eps = layer_.options.eps,
                           .gamma = state.weight,
                           .beta = state.bias,
                           .out = out,
                           .next_var = working_.exact ? working_.exact->var() : nullptr,
                           .running = running},
                          stream);
}

void DevicePlace::normalize(const ForwardArguments& arguments,
                            const channels::StatisticsArrays& statistics) {
  kernels::cuda::normalize({.x = arguments.x,
                            .weight = data_or_null(arguments.position_weights),
                            .mean = statistics.mean,
                            .scale = statistics.scale,
                            .shift = statistics.shift,
                            .residual = arguments.residual ? arguments.residual->data() : nullptr,
                            .negative_slope = layer_.options.activation.negative_slope,
                            .y = arguments.y.data()},
                           arguments.stream);
}

}  // namespace syncbn::bn
