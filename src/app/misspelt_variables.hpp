// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>
#include <vector>

namespace syncbn::app {

/// The variables of the environment that set what a run does, where no option or caller does.
inline constexpr std::array library_variables = {"SYNCBN_TIMEOUT", "SYNCBN_REPORT_AFTER",
                                                 "SYNCBN_FLIGHT_RECORD", "SYNCBN_EXCHANGE"};

/// Returns a warning for each variable whose name is nearly one of these, and which therefore sets
/// nothing, such as SYNCBN_TIMOUT. `environment` is as `environ` in
/// <unistd.h>.
std::vector<std::string> misspelt_variables(const char* const* environment);

}  // namespace syncbn::app
