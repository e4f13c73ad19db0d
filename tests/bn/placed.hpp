// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "bn/device.hpp"
#include "support/tensor.hpp"

namespace syncbn::test {

/// A tensor in the device's memory.
class Placed {
 public:
  explicit Placed(const Tensor& tensor) : memory_(bytes_of(tensor)), tensor_(tensor) {}

  TensorView view() {
    return {memory_.data(), tensor_.dtype(), tensor_.shape(), tensor_.layout(), Device::cuda(0)};
  }
  Tensor fetch() const {
    Tensor result = tensor_;
    test::fetch(memory_.data(), {static_cast<std::byte*>(result.view().data()), size_of(result)});
    return result;
  }

 private:
  static std::size_t size_of(const Tensor& tensor) {
    return static_cast<std::size_t>(tensor.shape().size()) * syncbn::size_of(tensor.dtype());
  }
  static std::span<const std::byte> bytes_of(const Tensor& tensor) {
    return {static_cast<const std::byte*>(tensor.view().data()), size_of(tensor)};
  }

  test::DeviceMemory memory_;
  Tensor tensor_;
};

}  // namespace syncbn::test
