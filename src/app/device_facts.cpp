// SPDX-License-Identifier: Apache-2.0
#include "app/device_facts.hpp"

#include <nlohmann/json.hpp>

namespace syncbn::app {

nlohmann::ordered_json to_json(const std::optional<DeviceFacts>& device) {
  if (!device) {
    return nullptr;
  }
  return {{"name", device->name},
          {"cuda_runtime", device->runtime},
          {"cuda_driver", device->driver},
          {"l2_bytes", device->cache_bytes}};
}

}  // namespace syncbn::app
