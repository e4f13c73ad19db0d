// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace syncbn::comm::node {

/// Holds a text in memory that processes share. One of them writes it, any number of times, and
/// others read it at any time. Nobody takes a lock, as a process could die while it holds one.
///
/// It is a seqlock: a number that is odd while the text is being written tells a reader to try
/// again. The letters are atomic because a reader may read them at the same time.
template <std::size_t size>
class SharedText {
 public:
  /// Replaces the text; what does not fit is cut off. Waits for nobody.
  void write(std::string_view text) noexcept {
    const std::uint32_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < size; ++i) {
      const bool ends = i >= text.size();
      letters_[i].store(ends ? '\0' : text[i], std::memory_order_release);
      if (ends) {
        break;
      }
    }
    version_.store(version + 2, std::memory_order_release);
  }

  /// Returns the text; "" before the first, and if the writer died while it wrote.
  std::string read() const {
    constexpr int tries = 1000;
    for (int i = 0; i < tries; ++i) {
      const std::uint32_t before = version_.load(std::memory_order_acquire);
      std::string text;
      for (const std::atomic<char>& letter : letters_) {
        const char read = letter.load(std::memory_order_acquire);
        if (read == '\0') {
          break;
        }
        text += read;
      }
      if (before % 2 == 0 && version_.load(std::memory_order_relaxed) == before) {
        return text;
      }
    }
    return "";
  }

 private:
  std::atomic<std::uint32_t> version_{0};
  std::array<std::atomic<char>, size> letters_{};
};

}  // namespace syncbn::comm::node
