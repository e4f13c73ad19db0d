// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <set>
#include <string_view>
#include <vector>

#include "app/doctor/finding.hpp"

namespace syncbn::app::doctor {

/// Returns the numbers of a list as the kernel writes it, "0-3,8"; what is no number is left out.
std::set<int> processors_in(std::string_view list);

/// `root` is the directory in which proc and sys are; `threads` are the OpenMP threads of this
/// rank.
ProcessorFacts read_processors(const std::filesystem::path& root, int threads);

/// Finds binding, ranks-per-core, threads-per-core, cpu-quota and frequency-governor.
std::vector<Finding> find_about_processors(const std::vector<Facts>& all);

}  // namespace syncbn::app::doctor
