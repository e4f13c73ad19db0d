// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

namespace syncbn::app {

/// Collective. Returns each host's ranks, ascending, by the host's name.
std::map<std::string, std::vector<int>> ranks_by_host(const Communicator& world);

/// Collective. Returns how many ranks this host has.
int ranks_on_this_host(const Communicator& world);

/// Collective. Returns how many ranks of this host may run on the same processors as this rank: all
/// of them, where a launcher binds none.
int ranks_on_these_processors(const Communicator& world);

/// Writes ascending numbers as ranges: "0-3, 6".
std::string ranges_text(const std::vector<int>& numbers);

}  // namespace syncbn::app
