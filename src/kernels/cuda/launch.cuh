// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header runs a kernel on a stream. A kernel is a small object, copied to the device, whose
// operator()(block, shared) is what a block does: phases one after the other, in each of which
// every thread does body(thread). Threads hand over to each other between phases only, through
// `shared`. Compiled by nvcc, the kernel runs on the device; compiled as C++, for the emulated
// device, on the host, a thread at a time.

#include "kernels/cuda/cuda.hpp"

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include "cuda/check.hpp"

namespace syncbn::kernels::cuda {

/// A DeviceBlock is the calling thread's block.
class DeviceBlock {
 public:
  __device__ std::int64_t index() const { return blockIdx.x; }

  template <class Body>
  __device__ void every_thread(Body body) const {
    body(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, Kernel::at_once)
    run(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  kernel(DeviceBlock(), shared);
}

struct OnStream {
  Stream stream;

  template <class Kernel>
  void operator()(std::int64_t blocks, const Kernel& kernel, const char* doing) const {
    run<<<static_cast<unsigned>(blocks), Kernel::threads, 0, stream>>>(kernel);
    syncbn::cuda::check(cudaGetLastError(), doing);
  }
};

}  // namespace syncbn::kernels::cuda

#else

#include "cuda/emulated.hpp"
#include "kernels/cuda/on_host.hpp"

namespace syncbn::kernels::cuda {

struct OnStream {
  Stream stream;

  template <class Kernel>
  void operator()(std::int64_t blocks, const Kernel& kernel, const char* doing) const {
    syncbn::cuda::put_on(stream, [=] { OnHost()(blocks, kernel, doing); });
  }
};

}  // namespace syncbn::kernels::cuda

#endif
