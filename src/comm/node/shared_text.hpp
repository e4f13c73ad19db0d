// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace syncbn::comm::node {

/// A text in memory that processes share: one writes it, any number of times, and others read it
/// whenever they like.
///
/// A number that is odd while the text is written tells a reader to look once more (a seqlock). The
/// letters are atomic because a reader may look at them at the same time.
template <std::size_t size>
class SharedText {
 public:
  /// Keeps what fits. Waits for nobody.
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

  /// "" before the first, and of a writer that died while it wrote.
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
