// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

namespace syncbn::app {

/// Collective. What each rank gives, up to 63 bytes of it, in rank order.
std::vector<std::string> gather_texts(const Communicator& world, const std::string& own);

/// Collective. Each host's ranks, ascending, by the host's name.
std::map<std::string, std::vector<int>> ranks_by_host(const Communicator& world);

/// Collective.
int ranks_on_this_host(const Communicator& world);

/// "0-3, 6" of ascending numbers.
std::string ranges_text(const std::vector<int>& numbers);

}  // namespace syncbn::app
