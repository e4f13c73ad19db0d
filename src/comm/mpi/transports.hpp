// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits>
#include <memory>

#include "syncbn/communicator.hpp"

#include "comm/group/transport.hpp"
#include "comm/mpi/members.hpp"

namespace syncbn::comm::mpi {

/// Collective. Returns the built-in exchange: shared memory within hosts, messages between them
/// (builtin.cpp). Tests divide a host into groups of at most `ranks_per_host`, each of which shares
/// memory as if it were a host of its own.
std::unique_ptr<Transport> builtin_transport(Members members, Deadlines deadlines,
                                             int ranks_per_host = std::numeric_limits<int>::max());

/// Collective. Returns an exchange by the MPI library's own all-reduce (mpi_sum.cpp).
std::unique_ptr<Transport> mpi_transport(Members members, Deadlines deadlines);

}  // namespace syncbn::comm::mpi
