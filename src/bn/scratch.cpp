// SPDX-License-Identifier: Apache-2.0
#include "bn/scratch.hpp"

#include <algorithm>
#include <utility>

#include "bn/allocate.hpp"

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

void* Scratch::Impl::on_device(std::size_t bytes, Device device) {
  if (bytes > device_bytes_ || device != device_) {
    std::shared_ptr<void> larger = bn::allocate_on(device, bytes, allocate);
    outgrown_.push_back(std::exchange(device_memory_, std::move(larger)));
    device_bytes_ = bytes;
    device_ = device;
  }
  return device_memory_.get();
}

}  // namespace syncbn
