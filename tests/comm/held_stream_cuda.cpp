// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <thread>

#include <cuda_runtime_api.h>

#include "comm/held_stream.hpp"
#include "cuda/check.hpp"

namespace syncbn::test {

void hold_until(std::atomic<bool>& open, CudaStream stream) {
  const auto wait = [](void* flag) {
    while (!*static_cast<std::atomic<bool>*>(flag)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  };
  cuda::check(cudaLaunchHostFunc(stream, wait, &open), "holding a stream");
}

}  // namespace syncbn::test
