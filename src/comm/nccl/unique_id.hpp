// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>

#include "syncbn/communicator.hpp"

namespace syncbn::comm::nccl {

/// Collective. An id of rank 0's making, for all. Throws CommError on every rank if it cannot.
ncclUniqueId share_unique_id(const Communicator& bootstrap);

}  // namespace syncbn::comm::nccl
