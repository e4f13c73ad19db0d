// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "syncbn/error.hpp"

#include "cuda/device.hpp"
#include "cuda/emulated.hpp"

namespace syncbn::cuda {
namespace {

thread_local int current = 0;

}  // namespace

void require_cuda() {}
int device_count() {
  return emulated_devices;
}
int current_device() {
  return current;
}
void choose_device(int device) {
  if (device < 0 || device >= emulated_devices) {
    throw DeviceError("no device " + std::to_string(device) + " (the host emulates " +
                      std::to_string(emulated_devices) + "). Choose one from 0 to " +
                      std::to_string(emulated_devices - 1) + ".");
  }
  current = device;
}
DeviceProperties properties_of(int) {
  // A small cache, because a benchmark has tensors that are larger than it.
  return {.name = "emulated: the host runs the kernels of a device", .cache_bytes = 4096};
}
std::string bus_address(int device) {
  return "emulated:" + std::to_string(device);
}
std::string runtime_version() {
  return "emulated";
}
std::string driver_version() {
  return "emulated";
}
OnDevice::OnDevice(int device) : before_(current_device()) {
  choose_device(device);
}
OnDevice::~OnDevice() {
  current = before_;
}

}  // namespace syncbn::cuda
