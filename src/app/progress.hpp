// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "app/option_values.hpp"

namespace syncbn::app {

/// ProgressStyle says how the user is shown how far a long command is.
enum class ProgressStyle : std::uint8_t {
  automatic,  ///< a bar if stderr is a terminal, else lines
  bar,        ///< on stderr, drawn over and over
  lines,      ///< on stdout, every few seconds
};

inline constexpr Word<ProgressStyle> progress_words[] = {{"auto", ProgressStyle::automatic},
                                                         {"bar", ProgressStyle::bar},
                                                         {"lines", ProgressStyle::lines}};

inline constexpr double redraw_seconds = 0.1;          ///< between two drawings of a bar
inline constexpr double line_seconds = 5;              ///< between two lines
inline constexpr const char* clear_line = "\r\x1b[K";  ///< for a terminal

/// Returns whether the style is a bar here.
bool is_bar(ProgressStyle style);

/// Returns a bar as text: "[######------]".
std::string progress_bar(std::int64_t done, std::int64_t total);

}  // namespace syncbn::app
