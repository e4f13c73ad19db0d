// SPDX-License-Identifier: Apache-2.0
#include "syncbn/version.hpp"

#include <string>

#include <gtest/gtest.h>

#include "syncbn/c/syncbn.h"

namespace syncbn {
namespace {

TEST(Version, OfTheLibraryIsThatOfItsHeadersAndItsPackage) {
  const std::string of_headers = std::to_string(SYNCBN_VERSION_MAJOR) + "." +
                                 std::to_string(SYNCBN_VERSION_MINOR) + "." +
                                 std::to_string(SYNCBN_VERSION_PATCH);
  EXPECT_EQ(version(), of_headers);
  EXPECT_EQ(syncbn_version(), of_headers);
  EXPECT_EQ(PACKAGE_VERSION, of_headers);
}

TEST(Version, CanBeComparedByThePreprocessor) {
#if SYNCBN_VERSION >= 100 && SYNCBN_VERSION < 10000 * (SYNCBN_VERSION_MAJOR + 1)
  SUCCEED();
#else
  FAIL() << SYNCBN_VERSION;
#endif
}

}  // namespace
}  // namespace syncbn
