// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "app/doctor/finding.hpp"

namespace syncbn::app::doctor {

/// Finds launcher.
std::vector<Finding> find_about_launch(const std::vector<Facts>& all);

}  // namespace syncbn::app::doctor
