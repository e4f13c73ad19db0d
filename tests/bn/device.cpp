// SPDX-License-Identifier: Apache-2.0
#include "bn/device.hpp"

#include "cuda/device.hpp"
#include "cuda/stream.hpp"

namespace syncbn::test {
namespace {

const cuda::StreamView stream(nullptr);

}  // namespace

const char* no_device() {
  return cuda::device_count() == 0 ? "SKIPPED: no CUDA device" : "";
}

DeviceMemory::DeviceMemory(std::span<const std::byte> bytes) {
  if (!bytes.empty()) {
    buffer_ = cuda::DeviceBuffer(bytes.size());
    buffer_.upload(bytes, stream);
    stream.synchronize();
  }
}

void fetch(const void* from, std::span<std::byte> to) {
  if (!to.empty()) {
    cuda::download(from, to, stream);
    stream.synchronize();
  }
}

}  // namespace syncbn::test
