// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/doctor/finding.hpp"
#include "app/launcher.hpp"

namespace syncbn::app::doctor {

/// Describes this program, its environment and the files of `data`, a data set's directory; none
/// if it is empty. `mpi` is the library's name. Reads all files of the data set and the program's.
TraitFacts read_traits(const Environment& environment, const std::string& mpi,
                       const std::filesystem::path& data);

/// Finds same-version, same-mpi, same-instruction-set, same-kernel, same-environment and same-data.
std::vector<Finding> find_about_traits(const std::vector<Facts>& all);

}  // namespace syncbn::app::doctor
