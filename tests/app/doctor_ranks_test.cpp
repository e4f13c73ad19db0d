// SPDX-License-Identifier: Apache-2.0
//
// `syncbn doctor` over ranks of MPI, each time with one thing planted that it has to find.
#include <sched.h>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string doctor = SYNCBN_PROGRAM " doctor";

/// Returns how severe the doctor finds what has that name, started by this command of a shell.
std::string severity(const std::string& command, const std::string& name) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "doctor.json").string();
  const Ended ended = run_shell("exec " + command + " " + doctor + " --json " + file);
  std::string worst;
  bool failed = false;
  const auto report = nlohmann::json::parse(read_file(file));
  for (const auto& finding : report["findings"]) {
    failed = failed || finding["severity"] == "error";
    if (finding["name"] == name && (worst.empty() || finding["severity"] != "ok")) {
      worst = finding["severity"];
    }
  }
  EXPECT_EQ(ended.code, failed ? 1 : 0) << ended.out << ended.err;
  return worst;
}

cpu_set_t allowed() {
  cpu_set_t processors;
  CPU_ZERO(&processors);
  sched_getaffinity(0, sizeof processors, &processors);
  return processors;
}

TEST(DoctorOfRanks, FindsRanksThatAreBoundToOneProcessor) {
  const cpu_set_t processors = allowed();
  if (CPU_COUNT(&processors) < 2) {
    GTEST_SKIP() << "there is one processor";
  }
  int first = 0;
  while (!CPU_ISSET(first, &processors)) {
    ++first;
  }
  EXPECT_EQ(severity(mpirun() + " 2 taskset -c " + std::to_string(first), "binding"), "error");
  EXPECT_EQ(severity(mpirun() + " 2", "binding"), "ok");
}

TEST(DoctorOfRanks, FindsMoreRanksThanProcessors) {
  const cpu_set_t processors = allowed();
  const int count = CPU_COUNT(&processors);
  if (count > 4) {
    GTEST_SKIP() << count << " processors would take too many ranks";
  }
  EXPECT_EQ(severity(mpirun() + " " + std::to_string(count + 1), "ranks-per-core"), "error");
  EXPECT_EQ(severity(mpirun() + " " + std::to_string(count), "ranks-per-core"), "ok");
}

TEST(DoctorOfRanks, FindsEnvironmentsThatDiffer) {
  const std::string first = mpirun() + " 1 env NCCL_ALGO=";
  const std::string second = " " + doctor + " : " SYNCBN_MPIRUN_N " 1 env NCCL_ALGO=Tree";
  EXPECT_THAT(
      run_shell("exec " + first + "Ring" + second + " " + doctor).out,
      HasSubstr("warning  same-environment: the environment differs in NCCL_ALGO: Ring on"));
  EXPECT_THAT(run_shell("exec " + first + "Tree" + second + " " + doctor).out,
              Not(HasSubstr("same-environment:")));
}

TEST(DoctorOfRanks, FindsTheLauncherOfAnotherMpi) {
  const std::string other = "mpirun.mpich";
  if (run_shell("command -v " + other).code != 0 ||
      run_shell("exec " SYNCBN_PROGRAM " info").out.find("over Open MPI") == std::string::npos) {
    GTEST_SKIP() << "there is no MPICH beside this build's Open MPI";
  }
  const Ended ended = run_shell("exec " + other + " -n 2 " + doctor);
  EXPECT_EQ(ended.code, 1);
  const std::string problem = "error    launcher: started as 2 processes by MPICH's mpiexec";
  const std::size_t told = ended.out.find(problem);
  ASSERT_NE(told, std::string::npos) << ended.out << ended.err;
  EXPECT_EQ(ended.out.find(problem, told + 1), std::string::npos) << "once, not by each process";

  const Ended check = run_shell("exec " + other + " -n 2 " SYNCBN_PROGRAM " check --quick");
  EXPECT_EQ(check.code, 1);
  const std::string line = check.err.substr(0, check.err.find('\n'));
  for (const char* part :
       {"PMI_SIZE=2", "this build has Open MPI", " -n 2 syncbn check --quick`"}) {
    EXPECT_THAT(line, HasSubstr(part));
  }
}

}  // namespace
}  // namespace syncbn::test
