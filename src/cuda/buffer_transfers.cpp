// SPDX-License-Identifier: Apache-2.0
//
// What a buffer does with its memory as a whole is the same for a device and for an emulated one.
#include <cassert>

#include "cuda/device_buffer.hpp"

namespace syncbn::cuda {

void DeviceBuffer::upload(std::span<const std::byte> from, StreamView stream, std::size_t offset) {
  assert(offset + from.size() <= bytes_);
  cuda::upload(from, as<std::byte>() + offset, stream);
}

void DeviceBuffer::download(std::span<std::byte> to, StreamView stream, std::size_t offset) const {
  assert(offset + to.size() <= bytes_);
  cuda::download(as<std::byte>() + offset, to, stream);
}

void DeviceBuffer::clear(StreamView stream) {
  cuda::clear(data(), bytes_, stream);
}

}  // namespace syncbn::cuda
