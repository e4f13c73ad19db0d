// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>

#include <gtest/gtest.h>

#if defined(__has_feature)
#define SYNCBN_HAS_THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#define SYNCBN_HAS_THREAD_SANITIZER 0
#endif

namespace syncbn::test {

#if defined(__SANITIZE_THREAD__) || SYNCBN_HAS_THREAD_SANITIZER
inline constexpr bool under_thread_sanitizer = true;
#else
inline constexpr bool under_thread_sanitizer = false;
#endif

/// Expects that a data race which a test plants is found: by the thread sanitizer, which ends the
/// process with 66, or by `shows`, which returns whether values are wrong.
template <class Shows>
void expect_race_found(Shows shows) {
  if (under_thread_sanitizer) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    EXPECT_EXIT((shows(), std::exit(0)), testing::ExitedWithCode(66), "data race");
  } else {
    EXPECT_TRUE(shows());
  }
}

}  // namespace syncbn::test
