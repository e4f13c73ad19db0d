// SPDX-License-Identifier: Apache-2.0
#include "cuda/device.hpp"

#include "cuda/check.hpp"

namespace syncbn::cuda {
namespace {

/// Turns 13000 into "13.0".
std::string to_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

void require_cuda() {}

int device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) {
    cudaGetLastError();  // an answer, not an error
    return 0;
  }
  check(status, "counting devices");
  return count;
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "asking for the current device");
  return device;
}

void choose_device(int device) {
  check(cudaSetDevice(device), "choosing a device");
}

DeviceProperties properties_of(int device) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "asking for a device's properties");
  return {.name = properties.name, .cache_bytes = static_cast<std::size_t>(properties.l2CacheSize)};
}

std::string bus_address(int device) {
  std::string address(20, '\0');
  check(cudaDeviceGetPCIBusId(address.data(), static_cast<int>(address.size()), device),
        "asking for a device's address");
  return address.c_str();
}

std::string runtime_version() {
  int version = 0;
  check(cudaRuntimeGetVersion(&version), "asking for the runtime's version");
  return to_text(version);
}

std::string driver_version() {
  int version = 0;
  check(cudaDriverGetVersion(&version), "asking for the driver's version");
  return to_text(version);
}

OnDevice::OnDevice(int device) : before_(current_device()) {
  choose_device(device);
}

OnDevice::~OnDevice() {
  cudaSetDevice(before_);  // if it fails, so does every later call, which will tell
}

}  // namespace syncbn::cuda
