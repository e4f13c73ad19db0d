// SPDX-License-Identifier: Apache-2.0
#include "comm/fingerprint.hpp"

#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace syncbn::comm {
namespace {

std::vector<double> summed_words(const std::vector<std::uint64_t>& prints) {
  std::vector<double> sum(8, 0.0);
  for (const std::uint64_t print : prints) {
    const FingerprintWords words = to_words(print);
    for (std::size_t i = 0; i < words.size(); ++i) {
      sum[i] += words[i];
    }
  }
  return sum;
}

bool agree(const std::vector<std::uint64_t>& prints) {
  const std::vector<double> sum = summed_words(prints);
  return all_equal(sum.data(), prints[0], static_cast<int>(prints.size()));
}

TEST(Fingerprint, EqualPrintsAgreeWhateverTheirNumber) {
  for (const std::size_t ranks : {1, 2, 3, 1000}) {
    EXPECT_TRUE(agree(std::vector<std::uint64_t>(ranks, 0xffff'ffff'ffff'ffff)));
    EXPECT_TRUE(agree(std::vector<std::uint64_t>(ranks, 0x0123'4567'89ab'cdef)));
  }
}

TEST(Fingerprint, OneOtherRankIsSeenByAll) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 1000; ++trial) {
    std::vector<std::uint64_t> prints(2 + trial % 7, random());
    prints.back() ^= std::uint64_t{1} << (trial % 64);
    const std::vector<double> sum = summed_words(prints);
    for (const std::uint64_t own : prints) {
      EXPECT_FALSE(all_equal(sum.data(), own, static_cast<int>(prints.size())));
    }
  }
}

TEST(Fingerprint, EqualSumsOfDifferentPiecesAreCaughtByTheSquares) {
  // 1 + 3 = 2 + 2 in the lowest piece: a sum without squares would let the third rank pass.
  EXPECT_FALSE(agree({2, 1, 3}));
}

// Of lengths that are hashed word by word, several words at a time, and both.
TEST(Fingerprint, DependsOnEveryBitTheOrderAndTheLength) {
  std::set<std::uint64_t> of_zeros;
  for (const std::size_t length : {1, 3, 4, 5, 8, 13, 40}) {
    std::vector<std::uint64_t> words(length, 0);
    const auto hash = [&] { return Fingerprint().add(std::as_bytes(std::span(words))).value(); };
    std::set<std::uint64_t> seen{hash()};
    EXPECT_TRUE(of_zeros.insert(hash()).second) << length << " words";
    for (std::uint64_t& word : words) {
      for (int bit = 0; bit < 64; ++bit) {
        word = std::uint64_t{1} << bit;
        EXPECT_TRUE(seen.insert(hash()).second) << length << " words";
      }
      word = 0;
    }
  }
  EXPECT_NE(Fingerprint().add(1).add(2).value(), Fingerprint().add(2).add(1).value());
}

TEST(Fingerprint, TwoFlippedSignsDoNotCancel) {
  std::vector<float> values(45, 1);
  const auto hash = [&] { return Fingerprint().add(std::as_bytes(std::span(values))).value(); };
  const std::uint64_t before = hash();
  for (std::size_t i = 1; i < values.size(); ++i) {
    values[0] = values[i] = -1;
    EXPECT_NE(hash(), before) << i;
    values[i] = 1;
  }
}

}  // namespace
}  // namespace syncbn::comm
