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
                         .cache_bytes = cpu::cache_bytes,
                         .least_channels = cpu::least_channels};

constexpr Kernels by_reference{
    .forward_sums = reference::forward_sums,
    .normalize = reference::normalize,
    .backward_sums = reference::backward_sums,
    .input_gradient = reference::input_gradient,
    .cache_bytes = [] { return std::numeric_limits<std::int64_t>::max(); },
    .least_channels = [](const ConstTensorView& x) { return x.shape().c; }};

}  // namespace

const Kernels& select(Backend backend) {
  return backend == Backend::reference ? by_reference : on_cpu;
}

}  // namespace syncbn::kernels
