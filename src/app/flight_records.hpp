// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace syncbn::app {

/// Describes what the flight records in a directory tell together: each rank's last exchange, which
/// ranks have no record, and the first exchange in which ranks differ. Files that are no records
/// are named and left out. Throws FileError for a directory without records.
std::string describe_flight_records(const std::filesystem::path& directory);

}  // namespace syncbn::app
