// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <stdexcept>
#include <string_view>

namespace syncbn::comm {

/// Holds a text of at most N bytes without a pointer, so that it can be copied into memory that
/// other processes read.
template <std::size_t N>
class FixedText {
 public:
  constexpr FixedText() = default;
  /// Throws std::length_error for a longer text; a constant one does not compile then.
  constexpr FixedText(const char* text) : FixedText(std::string_view(text)) {}
  constexpr FixedText(std::string_view text) : size_(text.size()) {
    if (text.size() > N) {
      throw std::length_error("a text that is too long for its place");
    }
    std::ranges::copy(text, bytes_.begin());
  }

  constexpr std::string_view view() const { return {bytes_.data(), size_}; }
  constexpr bool empty() const { return size_ == 0; }

 private:
  std::size_t size_ = 0;
  std::array<char, N> bytes_{};
};

}  // namespace syncbn::comm
