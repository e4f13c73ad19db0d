// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "syncbn/communicator.hpp"

#include "core/internal_api.hpp"

namespace syncbn::comm {

/// Returns the deadlines, those above a year cut to a year, so that they can be added to any clock.
/// Throws InvalidArgument for one that is not above 0.
SYNCBN_INTERNAL_API Deadlines validated(Deadlines deadlines);

/// Writes a time for messages, as "0.5 s", the same in every locale.
SYNCBN_INTERNAL_API std::string in_seconds(std::chrono::milliseconds time);

/// Calls the program's report handler, if there is one. What the handler throws is ignored.
SYNCBN_INTERNAL_API void report(std::string_view line) noexcept;

/// Reports that the wait for `what`, on which there was a report, is over.
SYNCBN_INTERNAL_API void report_end_of_wait(std::string_view what,
                                            std::chrono::nanoseconds waited) noexcept;

}  // namespace syncbn::comm
