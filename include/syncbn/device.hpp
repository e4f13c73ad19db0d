// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header needs no CUDA header: a cudaStream_t is passed as it is.

#include <string>

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

/// Returns "cpu" or, for example, "cuda:0".
inline std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index());
}

}  // namespace syncbn
