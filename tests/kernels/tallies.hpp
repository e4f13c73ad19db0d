// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "channels/exact_memory.hpp"
#include "channels/exact_messages.hpp"

namespace syncbn::test {

/// Holds the tallies of channels that have all the same windows.
class Tallies {
 public:
  Tallies(std::int64_t channels, int first_window, int second_window) : memory_(channels) {
    std::fill_n(to().first_window, channels, first_window);
    std::fill_n(to().second_window, channels, second_window);
    std::fill_n(to().wanted, channels, 1);
  }

  const channels::ExactChannels& to() const { return memory_.of(); }
  std::int64_t channels() const { return to().channels; }
  channels::ExactPass pass(bool backward, bool fine) const {
    return {to(), {0, channels()}, backward, fine};
  }

  /// Returns what was tallied of a channel. Sums in finer units are 0 unless they were written.
  channels::OwnTally of(std::int64_t c, bool backward) const { return {pass(backward, true), c}; }
  double magnitude(int field, std::int64_t c) const {
    return std::bit_cast<double>(to().magnitude(field, c));
  }
  double special(int field, std::int64_t c) const {
    return channels::special_of(to().magnitude(channels::magnitude_words - 1, c), field);
  }

 private:
  channels::ExactMemory memory_;
};

}  // namespace syncbn::test
