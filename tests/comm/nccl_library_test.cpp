// SPDX-License-Identifier: Apache-2.0
//
// Which NCCL is used, out of several that do nothing (fake_nccl.cpp). As a process stays with the
// one that it found, each test has a process of its own.

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "comm/nccl/device_sharing.hpp"
#include "comm/nccl/library.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::comm::nccl {
namespace {

using testing::AllOf;
using testing::ExitedWithCode;
using testing::HasSubstr;
using testing::StartsWith;

std::string fake(const std::string& name) {
  return FAKE_NCCL "/" + name;
}

/// Ends the process with a line about the NCCL that it uses.
[[noreturn]] void tell() {
  const std::string why_not = why_no_library();
  const std::string text = why_not.empty() ? "uses NCCL " + version() : why_not;
  std::fprintf(stderr, "%s\n", text.c_str());
  std::_Exit(0);
}

class NcclLibrary : public testing::Test {
 protected:
  NcclLibrary() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  /// Has the loader of the next process find the NCCL in this directory of fakes.
  static void install(const std::string& name) { setenv("LD_LIBRARY_PATH", fake(name).c_str(), 1); }
};

using NcclLibraryDeathTest = NcclLibrary;

TEST_F(NcclLibraryDeathTest, IsTheOneThatTheLoaderFinds) {
  install("current");
  EXPECT_EXIT(tell(), ExitedWithCode(0), StartsWith("uses NCCL 2.99.7"));
}

TEST_F(NcclLibraryDeathTest, SaysWhatToDoWithoutOne) {
  install("broken");
  EXPECT_EXIT(
      tell(), ExitedWithCode(0),
      AllOf(StartsWith("no sums over NCCL ("), HasSubstr("broken/libnccl.so.2: "),
            HasSubstr("Install NCCL 2.19 or newer"), HasSubstr("DeviceCommunicator::staged")));
}

TEST_F(NcclLibraryDeathTest, RefusesAnOldOne) {
  install("old");
  EXPECT_EXIT(tell(), ExitedWithCode(0),
              HasSubstr("no sums over NCCL (" + fake("old/libnccl.so.2 is version 2.18.6).")));
}

TEST_F(NcclLibraryDeathTest, RefusesOneWithoutAFunctionThatIsNeeded) {
  install("lacking");
  EXPECT_EXIT(
      tell(), ExitedWithCode(0),
      HasSubstr("no sums over NCCL (" + fake("lacking/libnccl.so.2 has no ncclCommSplit).")));
}

TEST_F(NcclLibraryDeathTest, PrefersTheOneThatIsLoadedAlready) {
  install("current");
  const auto load_another = [] {
    ASSERT_NE(dlopen(fake("other/libnccl.so.2").c_str(), RTLD_NOW | RTLD_LOCAL), nullptr);
    tell();
  };
  EXPECT_EXIT(load_another(), ExitedWithCode(0), StartsWith("uses NCCL 2.99.8"));
}

TEST_F(NcclLibraryDeathTest, PrefersTheOneInsideTheProgram) {
  install("current");
  const auto be_another = [] {
    ASSERT_NE(dlopen(fake("inside/libframework.so").c_str(), RTLD_NOW | RTLD_GLOBAL), nullptr);
    tell();
  };
  EXPECT_EXIT(be_another(), ExitedWithCode(0), StartsWith("uses NCCL 2.99.9"));
}

TEST_F(NcclLibraryDeathTest, IsLookedForAgainAfterAFailure) {
  install("broken");
  const auto load_late = [] {
    ASSERT_NE(why_no_library(), "");
    ASSERT_NE(dlopen(fake("other/libnccl.so.2").c_str(), RTLD_NOW | RTLD_LOCAL), nullptr);
    tell();
  };
  EXPECT_EXIT(load_late(), ExitedWithCode(0), StartsWith("uses NCCL 2.99.8"));
}

TEST(NcclOnAllRanks, IsRefusedOnEveryRankIfOneLacksIt) {
  test::on_ranks([](const Communicator& group) {
    const int last = group.size() - 1;
    EXPECT_NO_THROW(require_everywhere(group, ""));
    try {
      require_everywhere(group, group.rank() == last ? "no NCCL here" : "");
      ADD_FAILURE() << "not refused";
    } catch (const NotConfigured& error) {
      const std::string elsewhere = "none to use on rank " + std::to_string(last);
      EXPECT_THAT(error.what(), HasSubstr(group.rank() == last ? "no NCCL here" : elsewhere));
    }
  });
}

}  // namespace
}  // namespace syncbn::comm::nccl
