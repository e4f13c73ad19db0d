// SPDX-License-Identifier: Apache-2.0
#include "trainer/random.hpp"

#include <cmath>
#include <set>

#include <gtest/gtest.h>

namespace syncbn::trainer {
namespace {

TEST(Random, DependsOnEveryWordOfTheKeyAndTheCounter) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t a = 0; a < 8; ++a) {
    for (std::uint64_t b = 0; b < 8; ++b) {
      for (std::uint64_t i = 0; i < 8; ++i) {
        seen.insert(Random{a, b}.bits(i));
      }
    }
  }
  EXPECT_EQ(seen.size(), 512);
}

/// Means of n draws stay within five of their standard deviations.
TEST(Random, HasTheMomentsItPromises) {
  const Random random{7};
  constexpr int n = 100'000;
  double uniforms = 0, normals = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const auto counter = static_cast<std::uint64_t>(i);
    const double uniform = random.uniform(counter);
    ASSERT_GE(uniform, 0);
    ASSERT_LT(uniform, 1);
    ASSERT_LT(random.below(10, counter), 10);
    uniforms += uniform;
    const double normal = random.normal(counter);
    normals += normal;
    squares += normal * normal;
  }
  const double deviation = 5 / std::sqrt(n);
  EXPECT_NEAR(uniforms / n, 0.5, deviation / std::sqrt(12));
  EXPECT_NEAR(normals / n, 0, deviation);
  EXPECT_NEAR(squares / n, 1, deviation * std::sqrt(2));
}

}  // namespace
}  // namespace syncbn::trainer
