// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace syncbn::cuda {

/// Throws NotConfigured in a build without CUDA, unless the device is emulated.
void require_cuda();

/// Returns how many CUDA devices this process can use; 0 also where there is no driver.
int device_count();

/// Returns the device that the calling thread's calls go to.
int current_device();

/// Sends the calling thread's calls to `device` from now on.
void choose_device(int device);

struct DeviceProperties {
  std::string name;             ///< "NVIDIA H100 80GB HBM3"
  std::size_t cache_bytes = 0;  ///< [B] of the L2
};
DeviceProperties properties_of(int device);

/// Returns a device's PCI address on its host, up to 19 characters: "0000:3b:00.0".
std::string bus_address(int device);

/// Return versions as "13.0": of the runtime that this library is linked with, and the newest that
/// the driver knows.
std::string runtime_version();
std::string driver_version();
inline constexpr const char* no_driver = "0.0";  ///< driver_version() without a driver

/// Sends the calling thread's calls to `device`, and from the end of the scope to the device
/// before.
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
