// SPDX-License-Identifier: Apache-2.0
#include "app/huge_pages.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncbn::app {
namespace {

TEST(HugePages, FollowFromTheSettingAndFromWhatCame) {
  EXPECT_EQ(huge_pages("[always] madvise never", true), HugePages::everywhere);
  EXPECT_EQ(huge_pages("always [madvise] never", true), HugePages::on_request);
  EXPECT_EQ(huge_pages("always [madvise] never", false), HugePages::none_came);
  EXPECT_EQ(huge_pages("[always] madvise never", false), HugePages::none_came);
  EXPECT_EQ(huge_pages("always madvise [never]", false), HugePages::never);
  EXPECT_EQ(huge_pages("", false), HugePages::unknown);
}

TEST(HugePages, ExplainsWhatToSetWhereAProgramMustAskForThem) {
  EXPECT_THAT(explain(HugePages::on_request), testing::HasSubstr("glibc.malloc.hugetlb=1"));
  EXPECT_THAT(explain(HugePages::never), testing::HasSubstr("echo madvise"));
}

}  // namespace
}  // namespace syncbn::app
