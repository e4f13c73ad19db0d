// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "syncbn/communicator.hpp"

namespace syncbn::comm {

/// `deadlines` if they are above 0, at most a year, so that they can be added to any clock. Throws
/// InvalidArgument for others.
Deadlines validated(Deadlines deadlines);

/// For messages: "0.5 s".
std::string in_seconds(std::chrono::milliseconds time);

/// Hands the line to the program's handler, if there is one. What that throws is its own affair.
void report(std::string_view line) noexcept;

/// After a report on `what`: it is done.
void report_end_of_wait(std::string_view what, std::chrono::nanoseconds waited) noexcept;

}  // namespace syncbn::comm
