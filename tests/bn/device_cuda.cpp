// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include "bn/device.hpp"
#include "cuda/check.hpp"
#include "cuda/device.hpp"

namespace syncbn::test {

const char* no_device() {
  return cuda::device_count() == 0 ? "SKIPPED: no CUDA device" : "";
}

DeviceMemory::DeviceMemory(std::span<const std::byte> bytes) {
  if (!bytes.empty()) {
    cuda::check(cudaMalloc(&data_, bytes.size()), "allocating memory");
    cuda::check(cudaMemcpy(data_, bytes.data(), bytes.size(), cudaMemcpyHostToDevice),
                "filling it");
  }
}

DeviceMemory::~DeviceMemory() {
  cudaFree(data_);
}

void fetch(const void* from, std::span<std::byte> to) {
  if (!to.empty()) {
    cuda::check(cudaMemcpy(to.data(), from, to.size(), cudaMemcpyDeviceToHost), "fetching results");
  }
}

}  // namespace syncbn::test
