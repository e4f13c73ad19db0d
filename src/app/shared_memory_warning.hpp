// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "app/launcher.hpp"

namespace syncbn::app {

/// Returns a warning if dev/shm in `root` has less free than MPI takes for the ranks of this host.
/// Returns none if there is enough, if nothing tells how many ranks there are, or if another rank
/// of the host warns. `library` is the name of the MPI. For use before MPI starts: Open MPI's own
/// words do not tell what to do, and where it starts all the same, a rank that uses more than there
/// is ends with SIGBUS.
std::optional<std::string> shared_memory_warning(const std::filesystem::path& root,
                                                 const Environment& environment,
                                                 std::string_view library);

}  // namespace syncbn::app
