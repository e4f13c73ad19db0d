// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits>
#include <memory>

#include "syncbn/communicator.hpp"

#include "comm/mpi/members.hpp"
#include "comm/transport.hpp"

namespace syncbn::comm::mpi {

/// Collective. Shared memory within hosts, messages between them (builtin.cpp). Of a host, groups
/// of at most `ranks_per_host` share memory, as if they were hosts of their own: for tests.
std::unique_ptr<Transport> builtin_transport(Members members, Deadlines deadlines,
                                             int ranks_per_host = std::numeric_limits<int>::max());

/// Collective. The MPI library's own all-reduce (mpi_sum.cpp).
std::unique_ptr<Transport> mpi_transport(Members members, Deadlines deadlines);

}  // namespace syncbn::comm::mpi
