// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header needs no CUDA header: a cudaStream_t is passed as it is.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "syncbn/export.h"

struct CUstream_st;

namespace syncbn {

/// CudaStream is the same type as cudaStream_t; null is the default stream.
using CudaStream = CUstream_st*;

/// A Device says where memory is and what computes on it: the CPU, or a CUDA device of this
/// process.
class Device {
 public:
  constexpr Device() = default;  ///< the CPU

  static constexpr Device cpu() { return {}; }
  /// Returns the CUDA device of this number, counted from 0 as by cudaSetDevice.
  static constexpr Device cuda(int index) {
    Device device;
    device.index_ = index;
    return device;
  }

  constexpr bool is_cpu() const { return index_ < 0; }
  /// Returns the CUDA device's number; -1 for the CPU.
  constexpr int index() const { return index_; }
  friend constexpr bool operator==(const Device&, const Device&) = default;

 private:
  int index_ = -1;
};

/// An Allocate gives memory of so many bytes on a device, aligned to 256 bytes there and to 16 on
/// the CPU, or throws. The owner that it returns is destroyed when the library needs the memory no
/// longer; on a CUDA device, streams may not be done with it yet. It is called in the thread of the
/// call that needs the memory, which may be a collective one.
using Allocate = std::function<std::shared_ptr<void>(std::size_t bytes)>;

/// Local. Returns so many bytes of the current CUDA device's memory, aligned to 256: what
/// cudaMalloc gives, and with an emulated device the CPU's memory, which a program without CUDA can
/// get from nowhere else. Its owner may wait for the device. Throws NotConfigured in a build
/// without a device, and DeviceError if there is no memory.
SYNCBN_API std::shared_ptr<void> allocate_device_memory(std::size_t bytes);

/// Returns "cpu" or, for example, "cuda:0".
inline std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index());
}

}  // namespace syncbn
