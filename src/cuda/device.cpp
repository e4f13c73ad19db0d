// SPDX-License-Identifier: Apache-2.0
#include "cuda/device.hpp"

#include "cuda/check.hpp"

namespace syncbn::cuda {

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

OnDevice::OnDevice(int device) : before_(current_device()) {
  check(cudaSetDevice(device), "choosing a device");
}

OnDevice::~OnDevice() {
  cudaSetDevice(before_);  // fails only if every later call does, which will tell
}

}  // namespace syncbn::cuda
