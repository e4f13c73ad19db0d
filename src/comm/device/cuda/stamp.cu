// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "comm/device/cuda/stamp.hpp"
#include "cuda/check.hpp"

namespace syncbn::comm::cuda {
namespace {

__global__ void stamp(const Stamp kernel) {
  kernel();
}

__global__ void __launch_bounds__(Verify::threads) verify(const Verify kernel) {
  kernel(threadIdx.x);
}

}  // namespace

void launch(const Stamp& kernel, CUstream_st* stream) {
  stamp<<<1, 1, 0, stream>>>(kernel);
  syncbn::cuda::check(cudaGetLastError(), "launching a message's stamp");
}

void launch(const Verify& kernel, CUstream_st* stream) {
  verify<<<1, Verify::threads, 0, stream>>>(kernel);
  syncbn::cuda::check(cudaGetLastError(), "launching a message's verification");
}

}  // namespace syncbn::comm::cuda
