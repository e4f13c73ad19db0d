// SPDX-License-Identifier: Apache-2.0
#include "cuda/pinned_buffer.hpp"

#include "cuda/check.hpp"

namespace syncbn::cuda {

void FreePinned::operator()(void* memory) const noexcept {
  cudaFreeHost(memory);
}

PinnedBuffer::PinnedBuffer(std::size_t bytes) : bytes_(bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "allocating pinned memory");
  memory_.reset(memory);
}

}  // namespace syncbn::cuda
