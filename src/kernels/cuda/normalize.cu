// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/normalize.hpp"

namespace syncbn::kernels::cuda {

void normalize(const Normalize& arguments, Stream stream) {
  run_normalize(arguments, OnStream{stream});
}

}  // namespace syncbn::kernels::cuda
