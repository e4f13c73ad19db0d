// SPDX-License-Identifier: Apache-2.0
//
// What two ranks say before MPI starts, with a /dev/shm of the test's own. It takes a mount, which
// containers often refuse; then the tests are skipped.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/run_tool.hpp"

namespace syncbn::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class SharedMemoryWarning : public testing::Test {
 protected:
  void SetUp() override {
    if (run_shell(with_shared_memory("1m", "true")).code != 0) {
      GTEST_SKIP() << "nothing can be mounted here";
    }
  }

  static std::string with_shared_memory(const std::string& size, const std::string& command) {
    return "unshare --mount sh -c 'mount -t tmpfs -o size=" + size + " tmpfs /dev/shm && exec " +
           command + "'";
  }

  /// Returns what ranks print to standard error, whether or not MPI starts.
  static std::string told(const std::string& size, int ranks) {
    return run_shell(with_shared_memory(
                         size, mpirun() + " " + std::to_string(ranks) + " " SYNCBN_PROGRAM " info"))
        .err;
  }
};

const std::string warning = "syncbn: /dev/shm has 5 MiB free (of 5; MPI may take ";

TEST_F(SharedMemoryWarning, ComesOnceWhereRanksNeedMore) {
  const std::string text = told("5m", 2);
  EXPECT_THAT(text, AllOf(HasSubstr(warning), HasSubstr("for the 2 ranks here"),
                          HasSubstr("--shm-size"), HasSubstr("an emptyDir of medium Memory")));
  EXPECT_EQ(text.find(warning), text.rfind(warning)) << "once, not by each rank";
}

TEST_F(SharedMemoryWarning, DoesNotComeWhereThereIsEnough) {
  EXPECT_THAT(told("10m", 2), Not(HasSubstr("/dev/shm has")));
  EXPECT_THAT(told("5m", 1), Not(HasSubstr("/dev/shm has")));
}

TEST_F(SharedMemoryWarning, DoesNotComeOfAProcessWithoutALauncher) {
  const Ended ended = run_shell(with_shared_memory("1m", SYNCBN_PROGRAM " info"));
  EXPECT_THAT(ended.err, Not(HasSubstr("/dev/shm has")));
}

}  // namespace
}  // namespace syncbn::test
