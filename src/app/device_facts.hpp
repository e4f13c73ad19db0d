// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace syncbn::app {

struct DeviceFacts {
  std::string name;             ///< names of all ranks' devices: "NVIDIA H100 80GB HBM3"
  std::string runtime;          ///< version of the CUDA runtime that this program uses: "13.0"
  std::string driver;           ///< newest CUDA version that the driver supports
  std::size_t cache_bytes = 0;  ///< size of this rank's L2
};

/// Returns the facts as JSON for reports; null without a device.
nlohmann::ordered_json to_json(const std::optional<DeviceFacts>& device);

}  // namespace syncbn::app
