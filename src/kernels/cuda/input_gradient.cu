// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/input_gradient.hpp"
#include "kernels/cuda/launch.cuh"

namespace syncbn::kernels::cuda {

void input_gradient(const InputGradient& arguments, Stream stream) {
  run_input_gradient(arguments, OnStream{stream});
}

}  // namespace syncbn::kernels::cuda
