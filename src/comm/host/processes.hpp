// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "syncbn/communicator.hpp"

#include "comm/node/areas.hpp"

namespace syncbn::comm {

/// Makes the communicator of one of the processes that share areas, which have all been introduced.
/// `number` is the group's, the same for all (Group::new_number).
Communicator communicator_of_process(const std::shared_ptr<node::Areas>& areas, int rank,
                                     Deadlines deadlines, std::uint64_t number);

}  // namespace syncbn::comm
