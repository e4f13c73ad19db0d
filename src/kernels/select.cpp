// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "kernels/cpu/cache.hpp"
#include "kernels/cpu/cpu.hpp"
#include "kernels/kernels.hpp"
#include "kernels/reference/reference.hpp"

namespace syncbn::kernels {
namespace {

constexpr Kernels on_cpu{.forward_sums = cpu::forward_sums,
                         .normalize = cpu::normalize,
                         .backward_sums = cpu::backward_sums,
                         .input_gradient = cpu::input_gradient,
                         .forward_in_fixed_point = cpu::forward_in_fixed_point,
                         .backward_in_fixed_point = cpu::backward_in_fixed_point,
                         .forward_magnitudes = cpu::forward_magnitudes,
                         .backward_magnitudes = cpu::backward_magnitudes,
                         .cache_bytes = cpu::cache_bytes,
                         .least_channels = cpu::least_channels};

constexpr Kernels by_reference{
    .forward_sums = reference::forward_sums,
    .normalize = reference::normalize,
    .backward_sums = reference::backward_sums,
    .input_gradient = reference::input_gradient,
    .forward_in_fixed_point = reference::forward_in_fixed_point,
    .backward_in_fixed_point = reference::backward_in_fixed_point,
    .forward_magnitudes = reference::forward_magnitudes,
    .backward_magnitudes = reference::backward_magnitudes,
    .cache_bytes = [] { return std::numeric_limits<std::int64_t>::max(); },
    .least_channels = [](const ConstTensorView& x) { return x.shape().c; }};

}  // namespace

const Kernels& select(Backend backend) {
  return backend == Backend::reference ? by_reference : on_cpu;
}

}  // namespace syncbn::kernels
