// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;

TEST(Doctor, LooksAtEverythingAndEndsAsItsFindingsSay) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "doctor.json").string();
  const Ended ended = run_tool("doctor --json " + file);
  EXPECT_THAT(ended.out, testing::StartsWith("syncbn doctor: 1 rank on 1 host, "));
  const auto report = nlohmann::json::parse(read_file(file));
  EXPECT_EQ(report["format"], "syncbn doctor 1");
  std::set<std::string> names;
  bool failed = false;
  for (const auto& finding : report["findings"]) {
    const std::string name = finding["name"];
    names.insert(name);
    EXPECT_THAT(ended.out, HasSubstr(name));
    EXPECT_FALSE(finding["seen"].get<std::string>().empty()) << name;
    failed = failed || finding["severity"] == "error";
  }
  EXPECT_THAT(
      names, IsSupersetOf({"launcher", "binding", "ranks-per-core", "threads-per-core", "cpu-quota",
                           "frequency-governor", "shared-memory", "locked-memory", "open-files",
                           "clock-source", "wall-clocks", "same-version", "same-data",
                           "tcp-interfaces", "network-speed", "cuda-driver", "nccl"}));
  EXPECT_EQ(report["pass"], !failed);
  EXPECT_EQ(ended.code, failed ? 1 : 0) << ended.out;
}

TEST(Doctor, FindsProcessesThatDoNotKnowOfEachOtherAndTellsOnce) {
  const std::string start = "exec env SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=";
  const Ended first = run_shell(start + "0 " SYNCBN_PROGRAM " doctor");
  EXPECT_EQ(first.code, 1);
  EXPECT_THAT(first.out, HasSubstr("error    launcher: started as 2 processes by srun"));
  const Ended second = run_shell(start + "1 " SYNCBN_PROGRAM " doctor");
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.out + second.err, IsEmpty());
}

TEST(Doctor, FindsADataSetThatIsNotThere) {
  const ScratchDirectory scratch;
  const Ended missing = run_tool("doctor --data " + (scratch / "nowhere").string());
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.out, HasSubstr("error    same-data: the data set cannot be read: No such"));
  std::ofstream(scratch / "images") << "abc";
  const Ended there = run_tool("doctor --data " + scratch.path().string());
  EXPECT_THAT(there.out, testing::Not(HasSubstr("same-data:")));
}

TEST(Doctor, FindsFewerOpenFilesThanRanksNeed) {
  const Ended ended = run_shell("ulimit -n 30; exec " SYNCBN_PROGRAM " doctor");
  EXPECT_EQ(ended.code, 1) << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("error    open-files: "), HasSubstr("ulimit -n 65536")));
}

/// Needs what containers often refuse, a mount of its own; then the test is skipped.
TEST(Doctor, FindsSharedMemoryThatCannotBeWritten) {
  const std::string mount = "unshare --mount sh -c 'mount -t tmpfs -o ro tmpfs /dev/shm && exec ";
  if (run_shell(mount + "true'").code != 0) {
    GTEST_SKIP() << "nothing can be mounted here";
  }
  const Ended ended = run_shell(mount + SYNCBN_PROGRAM " doctor'");
  if (ended.err.find("in internal_Init_thread") != std::string::npos) {
    GTEST_SKIP() << "this MPI does not start without /dev/shm, and says so";
  }
  EXPECT_EQ(ended.code, 1) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("error    shared-memory: no file can be made in /dev/shm"));
}

}  // namespace
}  // namespace syncbn::test
