// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu.hpp"
#include "kernels/kernels.hpp"
#include "kernels/reference/reference.hpp"

namespace syncbn::kernels {

const Kernels& select(Backend backend) {
  static constexpr Kernels on_cpu{cpu::forward_sums, cpu::normalize, cpu::backward_sums,
                                  cpu::input_gradient};
  static constexpr Kernels by_reference{reference::forward_sums, reference::normalize,
                                        reference::backward_sums, reference::input_gradient};
  return backend == Backend::reference ? by_reference : on_cpu;
}

}  // namespace syncbn::kernels
