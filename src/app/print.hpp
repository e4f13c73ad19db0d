// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace syncbn::app {

/// Opens the standard streams that the caller has closed, so that no other file gets their numbers
/// and the texts meant for them. Writing to such a stream fails. Call it before anything else is
/// opened.
void occupy_standard_streams() noexcept;

/// Writes to standard output; `output_is_written` tells whether that worked.
void print(std::string_view text) noexcept;
/// Writes to standard output and flushes it.
void print_at_once(std::string_view text) noexcept;

/// Writes to standard error. A failure is ignored.
void print_error(std::string_view text) noexcept;

/// Flushes standard output. Returns false if this or any print before it failed.
bool output_is_written() noexcept;

}  // namespace syncbn::app
