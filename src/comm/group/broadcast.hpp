// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "syncbn/communicator.hpp"

namespace syncbn::comm {

/// Collective. Copies rank 0's bytes to all ranks, which must give equally many. Costs an
/// all-reduce of a double for every 4 bytes: meant for things as small as an address.
void broadcast(const Communicator& group, std::span<std::byte> bytes);

}  // namespace syncbn::comm
