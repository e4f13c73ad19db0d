// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "syncbn/communicator.hpp"

#include "app/progress.hpp"
#include "app/run_directory.hpp"
#include "app/scale/cells.hpp"

namespace syncbn::app::scale {

/// Returns the cells that the directory does not have, in a random order that the seed determines.
std::vector<const Cell*> missing_cells(const std::vector<Cell>& cells,
                                       const RunDirectory& directory, std::uint64_t seed);

/// Collective over the world. Measures the cells one after another and keeps what they find. Ranks
/// that take no part in a cell sleep meanwhile. Where the plan's time will not do for all, each
/// cell gets its share of what is left.
void measure_cells(std::span<const Cell* const> cells, const Communicator& world, const Plan& plan,
                   const Deadlines& deadlines, ProgressStyle progress, RunDirectory& directory);

}  // namespace syncbn::app::scale
