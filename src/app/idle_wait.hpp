// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include "syncbn/communicator.hpp"

namespace syncbn::app {

/// Collective. Waits for all ranks without taking a processor from those that work, for as long as
/// `patience`, and then as an exchange waits.
void wait_for_all(const Communicator& world, std::chrono::milliseconds patience);

}  // namespace syncbn::app
