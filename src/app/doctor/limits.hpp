// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "app/doctor/finding.hpp"

namespace syncbn::app::doctor {

/// Returns how many files one of so many ranks may have open: 32, where Open MPI
/// 4.1.4 takes 18 for two ranks on one host, and a connection to, and one from, every other rank.
double needed_open_files(int ranks);

/// `root` is the directory in which proc and sys are.
LimitFacts read_limits(const std::filesystem::path& root);

/// Finds locked-memory and open-files.
std::vector<Finding> find_about_limits(const std::vector<Facts>& all);

}  // namespace syncbn::app::doctor
