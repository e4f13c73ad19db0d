// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/forward_sums.hpp"
#include "kernels/cuda/launch.cuh"

namespace syncbn::kernels::cuda {

void forward_sums(const ForwardSums& arguments, void* workspace, Stream stream) {
  run_forward_sums(arguments, workspace, OnStream{stream});
}

}  // namespace syncbn::kernels::cuda
