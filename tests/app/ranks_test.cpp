// SPDX-License-Identifier: Apache-2.0
//
// What several ranks do together: one voice, one exit code, and no hang when one of them is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using testing::HasSubstr;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

TEST(Ranks, UsageErrorsArePrintedOnce) {
  const Ended ended = run_ranks(3, "check --bad");
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(count(ended.err, "there is no option --bad"), 1) << ended.err;
}

TEST(Ranks, HelpIsPrintedOnce) {
  const Ended ended = run_ranks(3, "check --help");
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(count(ended.out, "syncbn check [option].."), 1) << ended.out;
}

TEST(Ranks, DifferentArgumentsAreRefused) {
  const std::string program = SYNCBN_PROGRAM;
  const Ended ended = run_shell("exec " + mpirun() + " 1 " + program +
                                " check : " + SYNCBN_MPIRUN_N " 1 " + program + " check --quick");
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(count(ended.err, "different arguments"), 1) << ended.err;
}

TEST(Ranks, AFailureOfRank0AloneEndsAllOnce) {
  const Ended ended = run_ranks(2, "bench --shapes 4x4 --json /nonexistent/report.json");
  EXPECT_EQ(ended.code, 1);
  EXPECT_EQ(count(ended.err, "/nonexistent is not a directory"), 1) << ended.err;
}

TEST(Ranks, InfoShowsWhereTheyRun) {
  const Ended ended = run_ranks(3, "info");
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.out, HasSubstr("ranks 0-2"));
}

TEST(Ranks, CheckReportsTheControl) {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "check.json").string();
  const Ended ended = run_ranks(2, "check --quick --dtype f32 --json " + file);
  ASSERT_EQ(ended.code, 0) << ended.out << ended.err;
  const auto report = nlohmann::json::parse(read_file(file));
  EXPECT_EQ(report["ranks"], 2);
  EXPECT_EQ(report["same_bits"], true);
  EXPECT_EQ(report["local_control"]["pass"], true);
  EXPECT_GT(report["local_control"]["error"], 1e-3);
}

TEST(Ranks, BenchTimesTheSlowest) {
  const Ended ended = run_ranks(2, "bench --shapes 4x3x5x5 --repeat 3 --min-time 0");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(count(ended.out, "syncbn bench: 2 ranks"), 1) << ended.out;
}

/// Starts three ranks of work without end, sends `signal` to one of them, waits for the end of all.
Ended lose_a_rank(const std::string& signal, const std::string& options) {
  const ScratchDirectory scratch;
  const std::string directory = scratch.path().string();
  // Each rank leaves its process id, then becomes syncbn.
  const std::string rank = "echo \\$\\$ >" + directory +
                           "/\\$\\$.pid; exec " SYNCBN_PROGRAM
                           " bench --shapes 16x16 --repeat 1000000 --min-time 80000 " +
                           options;
  // Three seconds are plenty to reach the exchanges.
  return run_shell(mpirun() + " 3 sh -c '" + rank + "' & run=\\$!; sleep 3; kill -" + signal +
                   " \\$(cat " + directory + "/*.pid | head -n 1); wait \\$run");
}

TEST(Ranks, AKilledRankEndsTheRun) {
  const Ended ended = lose_a_rank("KILL", "");
  EXPECT_NE(ended.code, 0);
  EXPECT_LT(ended.seconds, 30);
}

TEST(Ranks, AStuckRankEndsTheRunAfterTheTimeout) {
  const Ended ended = lose_a_rank("STOP", "--timeout 2");
  EXPECT_NE(ended.code, 0);
  EXPECT_LT(ended.seconds, 40);
  EXPECT_THAT(ended.err, HasSubstr("not all ranks came within 2 s"));
}

}  // namespace
}  // namespace syncbn::test
