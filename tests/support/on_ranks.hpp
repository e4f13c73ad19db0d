// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>

#include "syncbn/communicator.hpp"

namespace syncbn::test {

/// What a test waits for a missing rank before it fails, unless it asks for less.
inline constexpr std::chrono::milliseconds patience = std::chrono::seconds(60);

/// Runs `body` once per rank of a group. In a program under mpirun the group is all its processes;
/// otherwise threads of this process, for groups of 1, 2, 3 and 4 in turn. What a rank throws fails
/// the test, with the rank's number.
void on_ranks(const std::function<void(Communicator)>& body,
              std::chrono::milliseconds timeout = patience);

}  // namespace syncbn::test
