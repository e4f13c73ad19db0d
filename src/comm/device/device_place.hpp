// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "syncbn/communicator.hpp"

namespace syncbn::comm {

/// Identifies the device that a rank uses.
struct DevicePlace {
  std::string host;           ///< any text that differs from host to host
  std::string bus;            ///< PCI address on that host, up to 20 bytes: "0000:3b:00.0"
  bool to_be_shared = false;  ///< whether this rank lets others use it too
};

/// Collective, an all-gather. Throws InvalidArgument on every rank if ranks have the same device
/// and not all of them let it be shared.
void require_own_device(const Communicator& group, const DevicePlace& own);

}  // namespace syncbn::comm
