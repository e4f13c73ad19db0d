// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "syncbn/communicator.hpp"

#include "comm/mpi/handles.hpp"
#include "comm/transport.hpp"

namespace syncbn::comm::mpi {

/// Collective. Shared memory within hosts, messages between them (service.cpp).
std::unique_ptr<Transport> service_transport(OwnedComm comm, Deadlines deadlines);

/// Collective. The MPI library's own all-reduce (vendor.cpp).
std::unique_ptr<Transport> vendor_transport(OwnedComm comm, Deadlines deadlines);

}  // namespace syncbn::comm::mpi
