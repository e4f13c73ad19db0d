// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "syncbn/communicator.hpp"

namespace syncbn::comm {

/// Where a device is.
struct DevicePlace {
  std::string host;           ///< whatever tells hosts apart
  std::string bus;            ///< its address there, up to 20 bytes: "0000:3b:00.0"
  bool to_be_shared = false;  ///< whether this rank lets others have it too
};

/// Collective. Throws InvalidArgument on every rank if ranks have the same device, and not all of
/// them let it be shared.
void require_own_device(const Communicator& group, const DevicePlace& own);

}  // namespace syncbn::comm
