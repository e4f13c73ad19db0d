// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "cuda/device_buffer.hpp"

namespace syncbn::cuda {

// There is no memory of a device without CUDA, and so nothing else to be done with it.

DeviceBuffer::DeviceBuffer(std::size_t) {
  throw NotConfigured("no device memory (built without CUDA). Configure with -DSYNCBN_CUDA=ON.");
}
void DeviceBuffer::upload(std::span<const std::byte>, StreamView, std::size_t) {}
void DeviceBuffer::download(std::span<std::byte>, StreamView, std::size_t) const {}
void DeviceBuffer::copy(const DeviceBuffer&, std::size_t, StreamView) {}
void DeviceBuffer::clear(StreamView) {}
void FreeDevice::operator()(void*) const noexcept {}
void StreamView::synchronize() const {}

}  // namespace syncbn::cuda
