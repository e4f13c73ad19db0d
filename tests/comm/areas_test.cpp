// SPDX-License-Identifier: Apache-2.0
#include "comm/node/areas.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "syncbn/error.hpp"

#include "support/failure.hpp"

namespace syncbn::comm::node {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::size_t bytes = sizeof(Layout) + 2 * sizeof(Area);

/// Returns why memory that another version has made is not attached.
std::string refusal_of(const Layout& layout) {
  const SharedMemory memory = SharedMemory::create(bytes);
  new (memory.data()) Layout(layout);
  return test::failure_of<CommError>([&] { Areas::attach(memory.address()); });
}

TEST(Areas, AreTheSameInAProcessThatAttachesThem) {
  const std::shared_ptr<Areas> areas = Areas::create(2);
  areas->introduce(0);
  const pid_t child = fork();
  if (child == 0) {
    try {
      const std::shared_ptr<Areas> attached = Areas::attach(areas->address());
      attached->introduce(1);
      (*attached)[1].cells[2][7] = 42;
      _exit(attached->count() == 2 && (*attached)[0].process == getppid() ? 0 : 2);
    } catch (const CommError&) {
      _exit(1);
    }
  }
  int status = 1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ((*areas)[1].process, child);
  EXPECT_EQ((*areas)[1].cells[2][7], 42);
}

TEST(Areas, OfThisVersionAreAttached) {
  EXPECT_EQ(refusal_of({.areas = 2}), "");
}

TEST(Areas, OfAnotherVersionAreRefusedWithBothVersions) {
  EXPECT_THAT(refusal_of({.version = 7, .areas = 2}),
              AllOf(HasSubstr("it has version 7, "),
                    HasSubstr("this process has version " + std::to_string(Layout::our_version)),
                    HasSubstr("same version of syncbn")));
}

TEST(Areas, OfAnotherSizeAreRefusedWithBothSizes) {
  EXPECT_THAT(
      refusal_of({.area_bytes = 4096, .areas = 2}),
      AllOf(HasSubstr("areas of 4096 bytes;"), HasSubstr(std::to_string(sizeof(Area)) + " bytes")));
}

TEST(Areas, WithFeaturesThatThisVersionDoesNotKnowAreRefused) {
  EXPECT_THAT(refusal_of({.features = 1U << 31, .areas = 2}), HasSubstr("features 2147483648, "));
}

TEST(Areas, OfSomethingElseAreRefused) {
  EXPECT_THAT(refusal_of({.magic = 0, .areas = 2}), HasSubstr("not of syncbn"));
}

TEST(Areas, ThatWouldReachBeyondTheMemoryAreRefused) {
  EXPECT_THAT(refusal_of({.areas = 3}), AllOf(HasSubstr(std::to_string(bytes) + " bytes"),
                                              HasSubstr("too few for the 3 areas")));
  EXPECT_THAT(refusal_of({.areas = ~std::uint64_t{0}}), HasSubstr("too few"));
}

TEST(Areas, InMemoryTooSmallForALayoutAreRefused) {
  const SharedMemory memory = SharedMemory::create(1);
  EXPECT_THAT(test::failure_of<CommError>([&] { Areas::attach(memory.address()); }),
              HasSubstr("1 bytes, too few"));
}

TEST(Areas, CannotBeAttachedOnceTheyAreHidden) {
  const std::shared_ptr<Areas> areas = Areas::create(1);
  const std::string address = areas->address();
  areas->hide();
  EXPECT_THAT(test::failure_of<CommError>([&] { Areas::attach(address); }),
              HasSubstr("opening memory"));
}

TEST(Areas, OfOneProcessAreIntroducedToItself) {
  const std::shared_ptr<Areas> areas = Areas::in_process(3);
  EXPECT_EQ(areas->count(), 3U);
  for (const Area* area : areas->all()) {
    EXPECT_EQ(area->process, getpid());
  }
}

}  // namespace
}  // namespace syncbn::comm::node
