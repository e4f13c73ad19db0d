// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/command.hpp"
#include "app/scale/distribution.hpp"

namespace syncbn::app::scale {

/// Collective. Describes the machine, as far as it has an influence on times: hosts with their
/// processors, kernel, memory and load, what each rank is bound to, and what was built how.
Json describe_machine(const World& world);

}  // namespace syncbn::app::scale
