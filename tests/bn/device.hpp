// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cuda/device_buffer.hpp"

namespace syncbn::test {

// The device of a test: a CUDA device, or the one that the host emulates. Sums over ranks are those
// of DeviceCommunicator::staged.

/// Why there is none; "" if there is.
const char* no_device();

/// Memory of it with these bytes. Null for none.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::span<const std::byte> bytes);

  void* data() const { return buffer_.data(); }

 private:
  cuda::DeviceBuffer buffer_;
};

/// What it holds there, when all that was put on the default stream is done.
void fetch(const void* from, std::span<std::byte> to);

inline std::vector<double> fetch(std::span<const double> from) {
  std::vector<double> values(from.size());
  fetch(from.data(), std::as_writable_bytes(std::span(values)));
  return values;
}

}  // namespace syncbn::test
