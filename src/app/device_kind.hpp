// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace syncbn::app {

/// Device says where a command's layers and tensors are.
enum class DeviceKind : std::uint8_t { cpu, cuda, emulated };

}  // namespace syncbn::app
