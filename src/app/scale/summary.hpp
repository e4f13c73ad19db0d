// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "app/scale/distribution.hpp"

namespace syncbn::app::scale {

/// Says what is about to be measured, and where: `missing` cells of `all`. `machine` is what
/// describe_machine gave.
std::string introduction(std::size_t missing, std::size_t all, const Json& machine,
                         const std::filesystem::path& output);

/// Returns what scale.json says in short: the price of synchronization and the exchange by number
/// of ranks, and how the report is drawn.
std::string summary(const Json& report, const std::filesystem::path& output);

}  // namespace syncbn::app::scale
