// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace syncbn::cuda {

/// CUDA devices that this process can use; 0 where there is no driver either.
int device_count();

/// The device that the calling thread's calls go to.
int current_device();

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
