// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace syncbn::app {

/// What the flight records in a directory tell together: the last of each rank, which ranks have
/// none, and the first exchange in which ranks part. Throws FileError for a directory without
/// records and for files that are none.
std::string describe_flight_records(const std::filesystem::path& directory);

}  // namespace syncbn::app
