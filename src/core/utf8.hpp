// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace syncbn {

/// Returns the text with U+FFFD in place of each byte that is not part of a well-formed UTF-8
/// character (Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF).
std::string to_utf8(std::string_view text);

/// Returns at most the first `bytes` bytes of the text. If it is UTF-8, they end between two
/// characters.
inline std::string_view cut_to(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) {
    return text;
  }
  constexpr std::size_t most_continued = 3;  // most bytes of a character behind its first
  const auto continues = [&](std::size_t at) {
    return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
  };
  std::size_t end = bytes;
  while (end > 0 && bytes - end < most_continued && continues(end)) {
    --end;
  }
  return text.substr(0, continues(end) ? bytes : end);
}

}  // namespace syncbn
