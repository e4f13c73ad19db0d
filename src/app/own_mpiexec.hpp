// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace syncbn::app {

/// Returns the launcher of the MPI that this process has: the one that is installed beside the
/// library which is loaded, and which need not be the one that this was built with, as MPICH and
/// Intel MPI can stand in for each other. If there is none, it is the build's, and "mpirun" where
/// that is not installed.
std::string own_mpiexec();

}  // namespace syncbn::app
