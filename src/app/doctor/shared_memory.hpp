// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "app/doctor/finding.hpp"

namespace syncbn::app::doctor {

/// Returns what the ranks of a host may take of /dev/shm. [B] `library` is the name of the MPI.
/// This library's own exchange takes none: its memory has no file (core/shared_memory.hpp).
double needed_in_shared_memory(std::string_view library, int ranks);

/// This advice is for a /dev/shm that is too small.
inline constexpr const char* enlarge_shared_memory =
    "Make it larger: `docker run --shm-size 1g` (or --ipc host), an emptyDir of medium Memory at "
    "/dev/shm in Kubernetes, elsewhere `mount -o remount,size=1g /dev/shm`.";

/// `root` is the directory in which dev is. Makes a file there, and removes it.
SharedMemoryFacts read_shared_memory(const std::filesystem::path& root);

/// Finds shared-memory.
std::vector<Finding> find_about_shared_memory(const std::vector<Facts>& all);

}  // namespace syncbn::app::doctor
