// SPDX-License-Identifier: Apache-2.0
#include "bn/allocate.hpp"

#include <cstdint>
#include <new>
#include <string>

#include "syncbn/error.hpp"

#include "bn/validate.hpp"
#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"

namespace syncbn::bn {
namespace {

std::shared_ptr<void> own_memory(Device device, std::size_t bytes) {
  if (device.is_cpu()) {
    return std::shared_ptr<void>(::operator new(bytes), [](void* p) { ::operator delete(p); });
  }
  const auto buffer = std::make_shared<cuda::DeviceBuffer>(bytes);
  return {buffer, buffer->data()};
}

}  // namespace

std::shared_ptr<void> allocate_on(Device device, std::size_t bytes, const Allocate& allocate) {
  if (!allocate) {
    return own_memory(device, bytes);
  }
  std::shared_ptr<void> memory = allocate(bytes);
  const std::string what = "what `allocate` gave for " + std::to_string(bytes) + " bytes";
  if (memory == nullptr) {
    throw InvalidArgument(what + " is null. Throw if there is no memory.");
  }
  require_aligned({what, memory.get(), bytes, std::size_t{device.is_cpu() ? 16U : 256U}});
  require_held(what, memory.get(), device);
  return memory;
}

}  // namespace syncbn::bn

namespace syncbn {

std::shared_ptr<void> allocate_device_memory(std::size_t bytes) {
  cuda::require_cuda();
  return bn::allocate_on(Device::cuda(cuda::current_device()), bytes, {});
}

}  // namespace syncbn
