// SPDX-License-Identifier: Apache-2.0
#include "bn/scratch.hpp"

#include <algorithm>
#include <utility>

#include "cuda/device_buffer.hpp"

namespace syncbn {

Scratch::Scratch(Allocate allocate) : impl_(std::make_unique<Impl>()) {
  impl_->allocate = std::move(allocate);
}
Scratch::Scratch(Scratch&&) noexcept = default;
Scratch& Scratch::operator=(Scratch&&) noexcept = default;
Scratch::~Scratch() = default;

double* Scratch::Impl::doubles(std::size_t count) {
  doubles_.resize(std::max(count, doubles_.size()));
  return doubles_.data();
}

void* Scratch::Impl::on_device(std::size_t bytes) {
  if (bytes > device_bytes_) {
    std::shared_ptr<void> larger;
    if (allocate) {
      larger = allocate(bytes);
    } else {
      const auto buffer = std::make_shared<cuda::DeviceBuffer>(bytes);
      larger = {buffer, buffer->data()};
    }
    outgrown_.push_back(std::exchange(device_memory_, std::move(larger)));
    device_bytes_ = bytes;
  }
  return device_memory_.get();
}

}  // namespace syncbn
