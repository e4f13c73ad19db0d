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

#include "bn/device/place.hpp"
#include "bn/operations.hpp"
#include "comm/device/device_sum.hpp"
#include "comm/group/access.hpp"

namespace syncbn::bn {

void DevicePlace::backward(const BackwardArguments& arguments, const ForwardRecord::Impl& record) {
  comm::Access::sum(group_).poll();
  const channels::StatisticsArrays& statistics = record.arrays;
  const bool own = keeps_own_sums(record);
  const kernels::Upstream upstream =
      upstream_of(arguments, coefficients_of(statistics), layer_.options.activation);
  sum_over_group(arguments, record, upstream);
  const double* sums = working_.sums.data();
  auto* mean_dz = working_.coefficients.as<double>();
  double* grad_slope = mean_dz + layer_.channels;
  kernels::cuda::finalize_backward({.channels = layer_.channels,
                                    .sums = sums,
                                    .invstd = statistics.invstd,
                                    .own_sums = own ? working_.own_sums.as<double>() : sums,
                                    .frozen = record.note.frozen,
                                    .mean_dz = mean_dz,
                                    .grad_slope = grad_slope,
                                    .dgamma = layer_.state.weight_grad,
                                    .dbeta = layer_.state.bias_grad},
                                   arguments.stream);
  kernels::cuda::input_gradient(
      {.upstream = upstream,
       .mean_dz = mean_dz,
       .grad_slope = grad_slope,
       .dx = arguments.dx.data(),
       .dresidual = arguments.dresidual ? arguments.dresidual->data() : nullptr},
      arguments.stream);
}

bool DevicePlace::keeps_own_sums(const ForwardRecord::Impl& record) const {
  return layer_.options.parameter_gradients == GradientScope::local && group_.size() > 1 &&
         !layer_.backward_is_local(record.note.frozen);
}

void DevicePlace::sum_over_group(const BackwardArguments& arguments,
                                 const ForwardRecord::Impl& record,
                                 const kernels::Upstream& upstream) {
  const CudaStream stream = arguments.stream;
  const bool alone = layer_.backward_is_local(record.note.frozen);
  const bool exact = working_.exact && !alone;
  working_.reserve(arguments.x, !exact, *this);
  double* sums = working_.sums.data();
  const comm::Descriptor what{.operation = &backward_operation(record.note.given()),
                              .subject = layer_.identity.label,
                              .count = layer_.channels,
                              .dtype = arguments.x.dtype(),
                              .options = layer_.options_text,
                              .facts = PassFacts{.forward = record.note.counted_forward()}};
  if (exact) {
    working_.exact->sum(comm::Access::sum(group_), what,
                        DeviceExact::Backward{.upstream = upstream,
                                              .invstd = record.arrays.invstd,
                                              .sums = sums,
                                              .own_sums = working_.own_sums.as<double>()},
                        stream);
    return;
  }
  kernels::cuda::backward_sums({.upstream = upstream, .sums = sums}, working_.partial.get(),
                               stream);
  if (keeps_own_sums(record)) {
    working_.own_sums.copy(working_.sums.buffer(), working_.own_sums.bytes(), stream);
  }
  if (!alone) {
    comm::Access::sum(group_).all_reduce(what, working_.sums.first(sums_length(layer_.channels)),
                                         stream);
  }
}

}  // namespace syncbn::bn
