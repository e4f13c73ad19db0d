// SPDX-License-Identifier: Apache-2.0
#include "bn/device/place.hpp"

#include <utility>

#include "bn/allocate.hpp"
#include "bn/validate.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/stream.hpp"

namespace syncbn::bn {

DevicePlace::DevicePlace(Layer& layer, DeviceCommunicator group, Allocate allocate)
    : layer_(layer),
      group_(std::move(group)),
      allocate_(std::move(allocate)),
      working_(layer.channels) {
  if (layer.is_exact()) {
    working_.exact.emplace(layer.channels, group_.size());
  }
}

std::shared_ptr<void> DevicePlace::allocate(std::size_t bytes) const {
  return allocate_on(device(), bytes, allocate_);
}

void DevicePlace::upload(std::span<const std::byte> from, void* to, CudaStream stream) const {
  if (!from.empty()) {
    cuda::upload(from, to, stream);
  }
}

void DevicePlace::download(const void* from, std::span<std::byte> to, CudaStream stream) const {
  cuda::download(from, to, stream);
}

void DevicePlace::clear(void* memory, std::size_t bytes, CudaStream stream) const {
  cuda::clear(memory, bytes, stream);
}

void DevicePlace::wait(CudaStream stream) const {
  cuda::StreamView(stream).synchronize();
}

void DevicePlace::require_invertible() const {
  bn::require_invertible(layer_.options.activation, {}, layer_.channels);
}

void DevicePlace::forget(CudaStream stream) {
  if (working_.exact) {
    working_.exact->forget(stream);
  }
}

}  // namespace syncbn::bn
