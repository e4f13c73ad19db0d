// SPDX-License-Identifier: Apache-2.0
#include "cuda/device_buffer.hpp"

#include <cassert>

#include "cuda/check.hpp"

namespace syncbn::cuda {

void FreeDevice::operator()(void* memory) const noexcept {
  cudaFree(memory);
}

DeviceBuffer::DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "allocating device memory");
  memory_.reset(memory);
}

void DeviceBuffer::copy(const DeviceBuffer& from, std::size_t bytes, StreamView stream,
                        std::size_t offset, std::size_t from_offset) {
  assert(offset + bytes <= bytes_ && from_offset + bytes <= from.bytes_);
  check(cudaMemcpyAsync(as<std::byte>() + offset, from.as<std::byte>() + from_offset, bytes,
                        cudaMemcpyDeviceToDevice, stream),
        "copying in device memory");
}

void clear(void* memory, std::size_t bytes, StreamView stream) {
  check(cudaMemsetAsync(memory, 0, bytes, stream), "clearing device memory");
}

bool is_memory_of(int device, const void* memory) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, memory), "asking where memory is");
  switch (attributes.type) {
    case cudaMemoryTypeDevice:
      return attributes.device == device;
    case cudaMemoryTypeHost:  // pinned: the device sees it
    case cudaMemoryTypeManaged:
      return true;
    default:
      return false;
  }
}

void upload(std::span<const std::byte> from, void* to, StreamView stream) {
  check(cudaMemcpyAsync(to, from.data(), from.size(), cudaMemcpyHostToDevice, stream),
        "copying to the device");
}

void download(const void* from, std::span<std::byte> to, StreamView stream) {
  check(cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, stream),
        "copying from the device");
}

}  // namespace syncbn::cuda
