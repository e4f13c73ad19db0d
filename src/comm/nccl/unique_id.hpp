// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>

#include "syncbn/communicator.hpp"

namespace syncbn::comm::nccl {

/// Collective. Returns an id that rank 0 made. Throws CommError on every rank if it cannot.
ncclUniqueId share_unique_id(const Communicator& bootstrap);

}  // namespace syncbn::comm::nccl
