// SPDX-License-Identifier: Apache-2.0
#include "comm/group/fingerprint.hpp"

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

TEST(Fingerprint, UpToFourFlippedSignsDoNotCancel) {
  for (const std::size_t length : {9, 23, 36}) {
    std::vector<float> values(length, 1.25F);
    std::set<std::uint64_t> seen;
    std::size_t tried = 0;
    const auto flip = [&](const auto& flip_more, std::size_t from, int more) -> void {
      ++tried;
      seen.insert(Fingerprint().add(std::as_bytes(std::span(values))).value());
      for (std::size_t i = from; more > 0 && i < length; ++i) {
        values[i] = -values[i];
        flip_more(flip_more, i + 1, more - 1);
        values[i] = -values[i];
      }
    };
    flip(flip, 0, 4);
    EXPECT_EQ(seen.size(), tried) << length << " values";
  }
}

TEST(Fingerprint, FlippedBitsOfWordsInOneChainDoNotCancel) {
  for (const std::size_t next : {1, 4}) {
    std::vector<std::uint64_t> words(9, 0x3ff4000000000000);
    std::set<std::uint64_t> seen;
    std::size_t tried = 0;
    for (int a = 0; a < 64; ++a) {
      for (int b = 0; b < 64; ++b) {
        words[0] ^= std::uint64_t{1} << a;
        words[next] ^= std::uint64_t{1} << b;
        seen.insert(Fingerprint().add(std::as_bytes(std::span(words))).value());
        ++tried;
        words[0] ^= std::uint64_t{1} << a;
        words[next] ^= std::uint64_t{1} << b;
      }
    }
    EXPECT_EQ(seen.size(), tried);
  }
}

}  // namespace
}  // namespace syncbn::comm
