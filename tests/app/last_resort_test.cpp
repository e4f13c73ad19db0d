// SPDX-License-Identifier: Apache-2.0
#include "app/last_resort.hpp"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

namespace syncbn::test {
namespace {

using app::LastResort;
using std::chrono::milliseconds;

TEST(LastResortDeathTest, EndsTheProcessWithItsMessage) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const LastResort last(milliseconds(10), "syncbn: nothing else helps");
        std::this_thread::sleep_for(std::chrono::minutes(1));
      },
      testing::ExitedWithCode(1), "syncbn: nothing else helps");
}

TEST(LastResortDeathTest, WarnsBefore) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const LastResort last(milliseconds(50), "syncbn: nothing else helps", milliseconds(10),
                              "syncbn: it takes long");
        std::this_thread::sleep_for(std::chrono::minutes(1));
      },
      testing::ExitedWithCode(1), "syncbn: it takes long\nsyncbn: nothing else helps");
}

TEST(LastResort, LetsGoInTime) {
  const auto begin = std::chrono::steady_clock::now();
  { const LastResort last(std::chrono::hours(1), "too late"); }
  { const LastResort last(milliseconds(200), "too late"); }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::minutes(1));
  std::this_thread::sleep_for(milliseconds(300));
}

}  // namespace
}  // namespace syncbn::test
