// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <string_view>

#include "cuda/emulated.hpp"
#include "python/extension/host_memory.hpp"

namespace syncbn::python {
namespace {

Device choose() {
  const char* const set = std::getenv("SYNCBN_EMULATED_TENSORS");
  if (set == nullptr || std::string_view(set) != "1") {
    return Device::cpu();
  }
  cuda::count_all_memory_as_the_devices();
  return Device::cuda(0);
}

}  // namespace

Device device_of_host_memory() {
  static const Device device = choose();
  return device;
}

}  // namespace syncbn::python
