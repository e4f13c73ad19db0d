// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header runs a kernel on a stream. A kernel is a small object, copied to the device, whose
// operator()(block, shared) is what a block does: phases one after the other, in each of which
// every thread does body(thread). Threads hand over to each other between phases only, through
// `shared`. Compiled by nvcc, the kernel runs on the device; compiled as C++, for the emulated
// device, on the host, a thread at a time.
//
// From compute capability 9.0 on, a kernel may be set up while the kernel before it on the stream
// still runs: it waits itself until that one is done and what it wrote can be read (CUDA C++
// Programming Guide, Programmatic Dependent Launch).

#include "kernels/cuda/cuda.hpp"

#ifdef __CUDACC__

#include <atomic>

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
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
#endif
  kernel(DeviceBlock(), shared);
}

/// Tells whether a kernel's code, which the driver may have compiled for an earlier device than the
/// current one, waits itself for the kernel before it.
template <class Kernel>
bool waits_for_earlier_work(void (*kernel)(Kernel)) {
  constexpr int devices = 64;
  enum : signed char { unknown, yes, no };
  static std::atomic<signed char> known[devices];
  int device = 0;
  syncbn::cuda::check(cudaGetDevice(&device), "asking for the device");
  if (device >= devices) {
    return false;
  }
  signed char answer = known[device].load(std::memory_order_relaxed);
  if (answer == unknown) {
    cudaFuncAttributes attributes{};
    syncbn::cuda::check(cudaFuncGetAttributes(&attributes, kernel), "asking what a kernel is for");
    answer = attributes.ptxVersion >= 90 ? yes : no;
    known[device].store(answer, std::memory_order_relaxed);
  }
  return answer == yes;
}

struct OnStream {
  Stream stream;

  template <class Kernel>
  void operator()(std::int64_t blocks, const Kernel& kernel, const char* doing) const {
    cudaLaunchAttribute early{};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = static_cast<unsigned>(blocks);
    config.blockDim = Kernel::threads;
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = waits_for_earlier_work(run<Kernel>) ? 1 : 0;
    syncbn::cuda::check(cudaLaunchKernelEx(&config, run<Kernel>, kernel), doing);
  }
};

}  // namespace syncbn::kernels::cuda

#else

#include <limits>
#include <string>

#include "syncbn/error.hpp"

#include "cuda/emulated.hpp"
#include "kernels/cuda/on_host.hpp"

namespace syncbn::kernels::cuda {

/// Refuses what CUDA does not launch.
struct OnStream {
  Stream stream;

  template <class Kernel>
  void operator()(std::int64_t blocks, const Kernel& kernel, const char* doing) const {
    if (blocks < 1 || blocks > std::numeric_limits<std::int32_t>::max()) {
      throw DeviceError(std::string(doing) + " failed (a launch of " + std::to_string(blocks) +
                        " blocks)");
    }
    syncbn::cuda::put_on(stream, [=] { OnHost()(blocks, kernel, doing); });
  }
};

}  // namespace syncbn::kernels::cuda

#endif
