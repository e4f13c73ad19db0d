// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace syncbn::cuda {

/// CUDA devices that this process can use; 0 where there is no driver either.
int device_count();

/// The device that the calling thread's calls go to.
int current_device();

/// Makes `device` the calling thread's from now on.
void choose_device(int device);

struct DeviceProperties {
  std::string name;             ///< "NVIDIA H100 80GB HBM3"
  std::size_t cache_bytes = 0;  ///< of the L2
};
DeviceProperties properties_of(int device);

/// "13.0": of the runtime that this library is linked with, and the newest that the driver knows.
std::string runtime_version();
std::string driver_version();
inline constexpr const char* no_driver = "0.0";  ///< its version where there is none

/// Makes `device` the calling thread's, and the one before its again at the end of the scope.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_;
};

}  // namespace syncbn::cuda
