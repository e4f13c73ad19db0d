// SPDX-License-Identifier: Apache-2.0

// The messages of exact sums, written by several ranks for a range of channels that does not begin
// with the first one.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "channels/exact_memory.hpp"
#include "channels/exact_steps.hpp"
#include "channels/for_each.hpp"

namespace syncbn::channels {
namespace {

constexpr std::int64_t channels_of_layer = 5;
constexpr ChannelRange range{1, 4};
constexpr int window = 4;

/// The memory of several ranks, whose channels have all the same window.
class Ranks {
 public:
  explicit Ranks(int count) : code_(exponent_code(count)) {
    for (int rank = 0; rank < count; ++rank) {
      ExactMemory& memory = ranks_.emplace_back(channels_of_layer);
      std::fill_n(memory.of().first_window, channels_of_layer, window);
      std::fill_n(memory.of().second_window, channels_of_layer, window);
      set_count(memory.of(), count_weights(nullptr, 10));
    }
  }

  const ExactChannels& operator[](int rank) const {
    return ranks_[static_cast<std::size_t>(rank)].of();
  }
  int count() const { return static_cast<int>(ranks_.size()); }
  const ExponentCode& code() const { return code_; }

  /// Adds up what all ranks pack.
  template <class Pack>
  std::vector<double> all_reduce(std::int64_t words, Pack pack) const {
    std::vector<double> sum(static_cast<std::size_t>(words), 0.0);
    for (int rank = 0; rank < count(); ++rank) {
      std::vector<double> own(sum.size(), std::nan(""));
      pack(rank, own.data());
      std::transform(own.begin(), own.end(), sum.begin(), sum.begin(), std::plus<>());
    }
    return sum;
  }
  std::vector<double> sums(bool backward, bool fine) const {
    const auto pass = [&](int rank) { return ExactPass{(*this)[rank], range, backward, fine}; };
    return all_reduce(pass(0).words(), [&](int rank, double* message) {
      for_each_channel(PackSums{pass(rank), message});
    });
  }
  std::vector<double> exponents() const {
    return all_reduce(code_.message_words(range.size()), [&](int rank, double* message) {
      for_each_channel(PackExponents{{(*this)[rank], range, false, false}, code_, message});
    });
  }

 private:
  ExponentCode code_;
  std::vector<ExactMemory> ranks_;
};

FixedPointSum units(std::int64_t coarse, std::int64_t fine = 0) {
  FixedPointSum sum;
  sum.coarse.add(coarse);
  sum.fine.add(fine);
  return sum;
}

TEST(ExactMessages, HoldTheSumsOfAllRanks) {
  for (const bool fine : {false, true}) {
    for (const bool backward : {false, true}) {
      const Ranks ranks(3);
      for (int rank = 0; rank < 3; ++rank) {
        for (std::int64_t c = range.begin; c < range.end; ++c) {
          const std::int64_t first = (rank - 1) * (c + 1) * (std::int64_t{1} << 40);
          put_tally(ranks[rank], c, units(first, rank), units(rank + c, -1), rank + 0.5, false);
        }
      }
      const std::vector<double> message = ranks.sums(backward, fine);
      const ExactPass pass{ranks[2], range, backward, fine};
      const double unit = std::ldexp(1.0, window - unit_bits);
      const double finer_unit = fine ? std::ldexp(1.0, window - 2 * unit_bits) : 0;
      for (std::int64_t c = range.begin; c < range.end; ++c) {
        const GroupSums group(pass, message.data(), c);
        EXPECT_FALSE(group.outside);
        EXPECT_EQ(group.first, 3 * finer_unit);  // the coarse ones cancel
        EXPECT_EQ(group.second, static_cast<double>(3 + 3 * c) * unit - 3 * finer_unit);
        EXPECT_EQ(largest_exponent(group.powers, window), backward ? 2 : no_exponent);  // of 2.5
      }
      EXPECT_EQ(GroupCount(pass, message.data()).weights, 30);
    }
  }
}

TEST(ExactMessages, TellThatATermOfAnyRankIsOutsideOfItsWindow) {
  const Ranks ranks(3);
  for (int rank = 0; rank < 3; ++rank) {
    for (std::int64_t c = range.begin; c < range.end; ++c) {
      put_tally(ranks[rank], c, units(1), units(1), 0, rank == 1 && c == 2);
    }
  }
  const std::vector<double> message = ranks.sums(false, false);
  std::vector<double> sums(2 * channels_of_layer + 1), pivot(channels_of_layer);
  for (int rank = 0; rank < 3; ++rank) {
    for (int round = 0; round < SettleForward::rounds; ++round) {
      for_each_channel(SettleForward{{ranks[rank], range, false, false},
                                     message.data(),
                                     round,
                                     1e-5,
                                     pivot.data(),
                                     sums.data()});
      for (std::int64_t c = range.begin; c < range.end; ++c) {
        // Windows that were fitted to the largest terms are not fitted once more.
        EXPECT_EQ(ranks[rank].wanted[c], c == 2 && round == 0 ? 1 : 0);
      }
    }
  }
}

TEST(ExactMessages, FitWindowsToTheLargestTermsOfAllRanks) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const int count : {1, 3, 9}) {
    const Ranks ranks(count);
    for (int rank = 0; rank < count; ++rank) {
      std::fill_n(ranks[rank].wanted, channels_of_layer, 1);
      ranks[rank].wanted[3] = 0;
      for (std::int64_t c = range.begin; c < range.end; ++c) {
        const double largest = std::ldexp(1.0, rank * 30 - 100);
        const double special = c == 2 && rank == count - 1 ? infinity : 0;
        put_magnitudes(ranks[rank], c, {largest, 0}, {largest * largest, special});
      }
    }
    const std::vector<double> message = ranks.exponents();
    const int exponent = (count - 1) * 30 - 99;
    for (int rank = 0; rank < count; ++rank) {
      for_each_channel(
          FitWindows{{ranks[rank], range, false, false}, ranks.code(), message.data(), nullptr});
      EXPECT_EQ(ranks[rank].first_window[1], exponent + 1);
      EXPECT_EQ(ranks[rank].second_window[1], 2 * exponent);
      EXPECT_EQ(ranks[rank].second_special[1], 0);
      EXPECT_EQ(ranks[rank].second_special[2], infinity);
      EXPECT_EQ(ranks[rank].first_window[3], window) << "not wanted";
      EXPECT_EQ(ranks[rank].first_window[0], window) << "not of the range";
    }
  }
}

}  // namespace
}  // namespace syncbn::channels
