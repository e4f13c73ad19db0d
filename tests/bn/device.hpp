// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace syncbn::test {

// The device of a test: a CUDA device (device_cuda.cpp), or the host in its place
// (device_on_host.cpp). Sums over ranks are those of DeviceCommunicator::staged.

/// Why there is none; "" if there is.
const char* no_device();

/// Memory of it with these bytes. Null for none.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::span<const std::byte> bytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* data() const { return data_; }

 private:
  void* data_ = nullptr;  ///< of no byte
};

/// What it holds there, when all that was put on the default stream is done.
void fetch(const void* from, std::span<std::byte> to);

inline std::vector<double> fetch(const double* from, std::size_t count) {
  std::vector<double> values(from == nullptr ? 0 : count);
  fetch(from, std::as_writable_bytes(std::span(values)));
  return values;
}

}  // namespace syncbn::test
