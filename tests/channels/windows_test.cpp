// SPDX-License-Identifier: Apache-2.0

// What exact sums decide per channel, on either side.

#include "channels/windows.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

#include "channels/count_limbs.hpp"
#include "channels/exponents.hpp"
#include "channels/pivot.hpp"

namespace syncbn::channels {
namespace {

constexpr int most_ranks = (1 << 20) - 1;

TEST(WindowsTest, ASumOfPowersTellsTheLargest) {
  for (const int ranks : {1, 2, 3, 4, 7, 8, 9, 500, 1024, most_ranks}) {
    const Digits digits = exponent_code(ranks).digits;
    for (int digit = 1; digit <= digits.count; ++digit) {
      const double power = digits.power(digit);
      ASSERT_TRUE(std::isnormal(power)) << ranks << " " << digit;
      ASSERT_EQ(digits.largest(power), digit) << ranks;
      ASSERT_EQ(digits.largest(ranks * power), digit) << ranks;
      const double below = digit == 1 ? 0 : digits.power(digit - 1);
      ASSERT_EQ(digits.largest(power + (ranks - 1) * below), digit) << ranks;
    }
    EXPECT_EQ(digits.largest(0), 0);
  }
}

TEST(WindowsTest, WordsHaveRoomForAllExponents) {
  for (const int ranks : {1, 2, 8, 1024, most_ranks}) {
    const ExponentCode code = exponent_code(ranks);
    EXPECT_GE(exponent_number(std::numeric_limits<double>::denorm_min()), 1);
    EXPECT_LE(exponent_number(std::numeric_limits<double>::max()), code.words * code.digits.count);
  }
  EXPECT_EQ(exponent_code(1).words, 2);
  EXPECT_EQ(exponent_code(8).words, 5);
  EXPECT_EQ(exponent_code(1024).words, 12);
  EXPECT_EQ(exponent_number(0), 0);
  EXPECT_EQ(exponent_number(std::numeric_limits<double>::infinity()), 0);
}

TEST(WindowsTest, AGradientTellsItsExponent) {
  for (const double largest : {1.0, 0.7, 1e-12, 0x1p-49}) {
    EXPECT_EQ(largest_exponent(largest_to_power(largest, 3), 3),
              std::max(exponent_of(largest), 4 - largest_steps))
        << largest;
  }
  EXPECT_EQ(largest_exponent(largest_to_power(0, 3), 3), no_exponent);
  EXPECT_EQ(largest_exponent(largest_to_power(1e-30, 3), 3), 4 - largest_steps);
}

// Kernels without weights look at squares alone to find terms outside of their windows.
TEST(WindowsTest, ADifferenceIsInItsWindowIfItsSquareIs) {
  for (int exponent = -1070; exponent < 1020; ++exponent) {
    const Windows windows = forward_windows(std::ldexp(1.5, exponent), 0, 0);
    ASSERT_TRUE(windows.known) << exponent;
    EXPECT_GE(2 * windows.first, windows.second) << exponent;
  }
}

// Half a unit is lost of each term, whatever the weights add up to.
TEST(WindowsTest, SumsOfSmallWeightsAreTooCoarseSooner) {
  constexpr double n = 100;
  const Windows windows = forward_windows(1, 1e-5, 0);
  for (const double weight : {1.0, 0x1p-6, 0x1p-12, 0x1p-40}) {
    const ForwardTotals totals{.sum = 0, .sum_sq = n * weight, .count = n * weight, .terms = n};
    EXPECT_EQ(is_too_coarse(totals, windows, 0, 1e-5, false, false), weight < 0x1p-8) << weight;
    EXPECT_FALSE(is_too_coarse(totals, windows, 0, 1e-5, false, true)) << weight;
  }
}

// Where the mean is no float, or none that is different, another pivot would not be nearer. Those
// of f64 are doubles.
TEST(WindowsTest, APivotIsMovedOnlyWhereItComesNearer) {
  for (const bool fine : {false, true}) {
    EXPECT_TRUE(another_pivot_is_nearer(1e6, 0, fine));
    EXPECT_TRUE(another_pivot_is_nearer(-3, 1000, fine));
    EXPECT_EQ(another_pivot_is_nearer(0.01, 1e6, fine), fine);
    EXPECT_EQ(another_pivot_is_nearer(1e-3, 1e5, fine), fine);
    EXPECT_EQ(another_pivot_is_nearer(1e150, 0, fine), fine);
    EXPECT_EQ(another_pivot_is_nearer(1e-150, 0, fine), fine);
    EXPECT_TRUE(another_pivot_is_nearer(-1e30 + 1, 1e30, fine));  // 0 is
    EXPECT_FALSE(another_pivot_is_nearer(0, 3, fine));
  }
  EXPECT_FALSE(another_pivot_is_nearer(1e-12, 1e5, true));
}

TEST(WindowsTest, SharesOfTheStartAreThePowersThatTheyWere) {
  for (const double momentum : {0.1, 0.01, 0.9, 1.0, 0.0}) {
    for (const std::int64_t batches : {0, 1, 2, 3, 10, 77, 1000}) {
      const double power = std::pow(1 - momentum, static_cast<double>(batches));
      EXPECT_NEAR(share_of_start(momentum, batches), power, 1e-13 * power);
    }
  }
}

TEST(WindowsTest, AFailedMessageCountsAsNaN) {
  std::array<double, count_limbs> limbs{};
  limbs.fill(std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(std::isnan(to_count(limbs.data())));
}

TEST(WindowsTest, LimbsCountWhatTheyAreMadeOf) {
  const auto count = [](const auto& limbs) {
    std::array<double, count_words> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<double>(limbs[i]);
    }
    return to_count(values.data());
  };
  for (const std::int64_t positions : {std::int64_t{0}, std::int64_t{1}, std::int64_t{3} << 40}) {
    EXPECT_EQ(count(count_weights(nullptr, positions)), static_cast<double>(positions));
    EXPECT_EQ(count_weights(nullptr, positions)[terms_word], positions);
  }
  for (const float weight : {0.0F, 1.0F, 0x1p-149F, 0.3F, std::numeric_limits<float>::max()}) {
    std::array<std::int64_t, count_words> limbs{};
    for (int i = 0; i < 3; ++i) {
      split_weight_into_limbs(weight, [&](int limb, std::int64_t part) {
        limbs[static_cast<std::size_t>(limb)] += part;
      });
    }
    EXPECT_EQ(count(limbs), 3 * static_cast<double>(weight));
    EXPECT_EQ(limbs[terms_word], weight == 0 ? 0 : 3);
  }
}

}  // namespace
}  // namespace syncbn::channels
