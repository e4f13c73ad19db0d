// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/backward_sums.hpp"
#include "kernels/cuda/launch.cuh"

namespace syncbn::kernels::cuda {

void backward_sums(const BackwardSums& arguments, void* workspace, Stream stream) {
  run_backward_sums(arguments, workspace, OnStream{stream});
}

}  // namespace syncbn::kernels::cuda
