// SPDX-License-Identifier: Apache-2.0
#include "core/utf8.hpp"

#include <gtest/gtest.h>

namespace syncbn {
namespace {

const std::string unknown = "\xef\xbf\xbd";

TEST(Utf8, WellFormedTextStays) {
  for (const std::string text :
       {"", "layer1.bn1", "caf\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xef\xbf\xbf",
        "\xed\x9f\xbf\xee\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_EQ(to_utf8(text), text);
  }
}

TEST(Utf8, BytesThatAreNoCharacterAreReplaced) {
  EXPECT_EQ(to_utf8("bn\xff"), "bn" + unknown);
  EXPECT_EQ(to_utf8("\x80\x80"), unknown + unknown);
  EXPECT_EQ(to_utf8("caf\xe9s"), "caf" + unknown + "s") << "Latin-1";
  EXPECT_EQ(to_utf8("\xe2\x82"), unknown + unknown) << "cut off";
  EXPECT_EQ(to_utf8("\xc0\xaf"), unknown + unknown) << "overlong";
  EXPECT_EQ(to_utf8("\xe0\x9f\xbf"), unknown + unknown + unknown) << "overlong";
  EXPECT_EQ(to_utf8("\xf0\x8f\xbf\xbf"), unknown + unknown + unknown + unknown) << "overlong";
  EXPECT_EQ(to_utf8("\xed\xa0\x80"), unknown + unknown + unknown) << "a surrogate";
  EXPECT_EQ(to_utf8("\xf4\x90\x80\x80"), unknown + unknown + unknown + unknown) << "too large";
}

TEST(Utf8, TextsAreCutBetweenCharacters) {
  EXPECT_EQ(cut_to("abc", 3), "abc");
  EXPECT_EQ(cut_to("abc", 2), "ab");
  EXPECT_EQ(cut_to("a\xc3\xa9", 2), "a");
  EXPECT_EQ(cut_to("a\xe2\x82\xac", 3), "a");
  EXPECT_EQ(cut_to("a\xf0\x9f\x98\x80z", 4), "a");
  EXPECT_EQ(cut_to("a\xf0\x9f\x98\x80z", 5), "a\xf0\x9f\x98\x80");
  EXPECT_EQ(cut_to("\xc3\xa9", 1), "");
}

TEST(Utf8, WhatIsNoUtf8IsCutAnywhere) {
  EXPECT_EQ(cut_to("\x80\x80\x80\x80\x80\x80", 5), "\x80\x80\x80\x80\x80");
}

}  // namespace
}  // namespace syncbn
