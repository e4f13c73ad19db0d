// SPDX-License-Identifier: Apache-2.0
#include "comm/device/cuda/stamp.hpp"

namespace syncbn::comm::cuda {

// Without CUDA no sum of device memory can be made, so there is none that would launch these.

void launch(const Stamp&, CUstream_st*) {}
void launch(const Verify&, CUstream_st*) {}

}  // namespace syncbn::comm::cuda
