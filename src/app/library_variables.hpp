// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

namespace syncbn::app {

/// The variables of the environment that set what a run does, where no option or caller does.
inline constexpr std::array library_variables = {"SYNCBN_TIMEOUT", "SYNCBN_REPORT_AFTER",
                                                 "SYNCBN_FLIGHT_RECORD", "SYNCBN_EXCHANGE"};

}  // namespace syncbn::app
