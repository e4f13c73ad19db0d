// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace syncbn::app {

/// Returns a warning for each variable whose name is nearly one of library_variables, and which
/// therefore sets nothing, such as SYNCBN_TIMOUT. `environment` is as `environ` in <unistd.h>.
std::vector<std::string> misspelt_variables(const char* const* environment);

}  // namespace syncbn::app
