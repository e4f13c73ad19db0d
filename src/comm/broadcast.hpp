// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "syncbn/communicator.hpp"

namespace syncbn::comm {

/// Collective. Rank 0's bytes for all, which give the same number of them. A sum to which the
/// others add zeros: for things as small as an address.
void broadcast(const Communicator& group, std::span<std::byte> bytes);

}  // namespace syncbn::comm
