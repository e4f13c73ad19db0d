// SPDX-License-Identifier: Apache-2.0
#include "core/float16.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

namespace syncbn {
namespace {

template <class T>
struct Format;
template <>
struct Format<Float16> {
  static constexpr std::uint16_t infinity = 0x7C00;
  static constexpr double largest = 65504;
  static constexpr double overflow = 65520;  // halfway to what would be next
  static constexpr double smallest = 0x1p-24;
  static constexpr double epsilon = 0x1p-10;
};
template <>
struct Format<BFloat16> {
  static constexpr std::uint16_t infinity = 0x7F80;
  static constexpr double largest = 0x1.FEp127;
  static constexpr double overflow = 0x1.FFp127;
  static constexpr double smallest = 0x1p-133;
  static constexpr double epsilon = 0x1p-7;
};

template <class T>
class Float16Test : public testing::Test {
 protected:
  static double value(int bits) { return static_cast<double>(T{static_cast<std::uint16_t>(bits)}); }
  static int bits(double value) { return T::from(value).bits; }
};

using Types = testing::Types<Float16, BFloat16>;
TYPED_TEST_SUITE(Float16Test, Types);

constexpr double infinity = std::numeric_limits<double>::infinity();

TYPED_TEST(Float16Test, EveryPatternSurvivesTheRoundTrip) {
  for (int pattern = 0; pattern <= 0xFFFF; ++pattern) {
    const double value = this->value(pattern);
    const int back = this->bits(value);
    if ((pattern & 0x7FFF) > Format<TypeParam>::infinity) {
      EXPECT_TRUE(std::isnan(value)) << pattern;
      EXPECT_GT(back & 0x7FFF, Format<TypeParam>::infinity) << pattern;
      EXPECT_EQ(back & 0x8000, pattern & 0x8000) << pattern;
    } else {
      ASSERT_EQ(back, pattern);
    }
  }
}

TYPED_TEST(Float16Test, KnownValues) {
  using F = Format<TypeParam>;
  EXPECT_EQ(this->value(0), 0);
  EXPECT_TRUE(std::signbit(this->value(0x8000)));
  EXPECT_EQ(this->value(1), F::smallest);
  EXPECT_EQ(this->value(F::infinity - 1), F::largest);
  EXPECT_EQ(this->value(F::infinity), infinity);
  EXPECT_EQ(this->value(F::infinity | 0x8000), -infinity);
  EXPECT_EQ(this->value(this->bits(1) + 1), 1 + F::epsilon);
  EXPECT_EQ(this->value(this->bits(-2)), -2);
}

// Between two neighbours: the middle goes to the even one, anything else to the nearer.
TYPED_TEST(Float16Test, RoundsToNearestEvenBetweenAllNeighbours) {
  for (int lower = 0; lower + 1 < Format<TypeParam>::infinity; ++lower) {
    const double middle = (this->value(lower) + this->value(lower + 1)) / 2;
    ASSERT_EQ(this->bits(middle), lower + lower % 2);
    ASSERT_EQ(this->bits(std::nextafter(middle, 0)), lower);
    ASSERT_EQ(this->bits(std::nextafter(middle, infinity)), lower + 1);
    ASSERT_EQ(this->bits(-middle), (lower + lower % 2) | 0x8000);
  }
}

TYPED_TEST(Float16Test, OverflowsFromHalfAStepBeyondTheLargest) {
  using F = Format<TypeParam>;
  EXPECT_EQ(this->bits(std::nextafter(F::overflow, 0)), F::infinity - 1);
  EXPECT_EQ(this->bits(F::overflow), F::infinity);
  EXPECT_EQ(this->bits(std::numeric_limits<double>::max()), F::infinity);
  EXPECT_EQ(this->bits(-infinity), F::infinity | 0x8000);
}

TYPED_TEST(Float16Test, UnderflowsToASignedZero) {
  using F = Format<TypeParam>;
  EXPECT_EQ(this->bits(F::smallest / 2), 0);
  EXPECT_EQ(this->bits(-F::smallest / 2), 0x8000);
  EXPECT_EQ(this->bits(std::numeric_limits<double>::denorm_min()), 0);
}

// A little over a tie: float would forget the little and round to the even 1.
TYPED_TEST(Float16Test, IsNotRoundedTwice) {
  const double tie = 1 + Format<TypeParam>::epsilon / 2;
  const double above = tie + 0x1p-40;
  ASSERT_EQ(static_cast<float>(above), static_cast<float>(tie));
  EXPECT_EQ(this->bits(tie), this->bits(1));
  EXPECT_EQ(this->bits(above), this->bits(1) + 1);
}

}  // namespace
}  // namespace syncbn
