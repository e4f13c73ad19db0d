// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace syncbn::app {

/// The value of an environment variable, or null: std::getenv.
using Environment = std::function<const char*(const char* variable)>;

/// Whether this process, which knows of no other, was started as one of several: "2 processes by
/// Open MPI's mpirun (OMPI_COMM_WORLD_SIZE=2)". None if it was started by itself, or nothing tells.
std::optional<std::string> other_processes(const Environment& environment);

/// Throws NotConfigured if `size`, the number of ranks that know of each other, is 1, and a
/// launcher has started several. Each would be alone, do the whole work, and write the same files.
/// `library` is the MPI of this build, "" without one.
void require_known_processes(int size, std::string_view library);

}  // namespace syncbn::app
