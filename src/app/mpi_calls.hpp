// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "app/plain_mpi.hpp"

namespace syncbn::app {

/// Collective over MPI_COMM_WORLD. Makes MPI's own calls over the ranks of one color, numbered in
/// the order of their ranks. MPI must not be finalized before it is destroyed.
std::unique_ptr<PlainMpi> make_plain_mpi(int color);

}  // namespace syncbn::app
