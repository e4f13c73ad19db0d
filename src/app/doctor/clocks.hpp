// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "app/doctor/finding.hpp"

namespace syncbn::app::doctor {

/// `root` is the directory in which sys is. Leaves `wall_clock` at 0. Takes some milliseconds.
ClockFacts read_clock(const std::filesystem::path& root);

/// Finds clock-source and wall-clocks.
std::vector<Finding> find_about_clocks(const std::vector<Facts>& all);

}  // namespace syncbn::app::doctor
