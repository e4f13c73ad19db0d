// SPDX-License-Identifier: Apache-2.0
//
// What several ranks do together: one voice, one exit code, and no hang when one of them is lost.
#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

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

TEST(Ranks, ShareProcessorsThatTheyAreNotBoundTo) {
  const Ended ended =
      run_shell("exec " + mpirun() + " 2 env -u OMP_NUM_THREADS " SYNCBN_PROGRAM " info");
  ASSERT_EQ(ended.code, 0) << ended.err;
  const std::size_t at = ended.out.find("\nthreads ");
  ASSERT_NE(at, std::string::npos) << ended.out;
  const int threads = std::stoi(ended.out.substr(at + 9));
  EXPECT_LE(threads, std::max(1U, std::thread::hardware_concurrency() / 2));
}

TEST(Ranks, DifferentArgumentsAreRefused) {
  const std::string program = SYNCBN_PROGRAM;
  const Ended ended = run_shell("exec " + mpirun() + " 1 " + program +
                                " check : " + SYNCBN_MPIRUN_N " 1 " + program + " check --quick");
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(count(ended.err, "different arguments"), 1) << ended.err;
}

/// Two ranks that are started in different ways.
Ended run_pair(const std::string& first, const std::string& second) {
  return run_shell("exec " + mpirun() + " 1 " + first + " : " + SYNCBN_MPIRUN_N + " 1 " + second);
}

const std::string quick_check = SYNCBN_PROGRAM " check --quick --dtype f32";

TEST(Ranks, AnArgumentThatOneAloneCannotUseIsADifference) {
  for (const std::string option : {"--timeout x", "--timeout -1", "--report-after 9999", "--bad"}) {
    const Ended ended = run_pair(quick_check, quick_check + " " + option);
    EXPECT_EQ(ended.code, 2) << option;
    EXPECT_LT(ended.seconds, 150) << option << ": the timeout is 300 s";
    EXPECT_EQ(count(ended.err, "different arguments"), 1) << option << ended.err;
  }
}

TEST(Ranks, ATimeoutInTheEnvironmentOfOneAloneEndsAll) {
  const Ended ended = run_pair(quick_check, "env SYNCBN_TIMEOUT=soon " + quick_check);
  EXPECT_EQ(ended.code, 1);
  EXPECT_LT(ended.seconds, 150);
  EXPECT_EQ(count(ended.err, "syncbn check: rank 1: "), 1) << ended.err;
  EXPECT_EQ(count(ended.err, "SYNCBN_TIMEOUT='soon'"), 1) << ended.err;
}

TEST(Ranks, AreToldOnceOfAMisspeltVariable) {
  // Others' variables, and right ones, are left alone.
  const Ended ended = run_shell(
      "SYNCBN_TIMOUT=9 SYNCBN_REPORT_AFTR=9 SYNCBN_TIMEOUT=100 SYNCBN_LAUNCHER=srun SYNCBN_RUN=x "
      "SYNCBN_BIN=y exec " +
      mpirun() + " 2 " + quick_check);
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(count(ended.err, "nothing reads it"), 2) << ended.err;
  for (const std::string name : {"TIMOUT", "REPORT_AFTR"}) {
    EXPECT_EQ(count(ended.err, "the environment has SYNCBN_" + name + " (nothing reads it)."), 1)
        << ended.err;
  }
  EXPECT_EQ(count(ended.err, "Did you mean 'SYNCBN_TIMEOUT'?"), 1) << ended.err;
}

TEST(Ranks, AreToldOnceOfDifferentBuilds) {
  const ScratchDirectory directory;
  const std::string other = (directory.path() / "syncbn").string();
  ASSERT_EQ(run_shell("cp " SYNCBN_PROGRAM " " + other + " && echo >> " + other).code, 0);
  const std::string told = "the ranks run different builds of syncbn";
  const std::string arguments = " check --quick --dtype f32";
  const Ended ended = run_pair(quick_check, other + arguments);
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(count(ended.err, told), 1) << ended.err;
  const Ended alike = run_pair(quick_check, quick_check);
  EXPECT_EQ(alike.code, 0) << alike.err;
  EXPECT_EQ(count(alike.err, told), 0) << alike.err;
}

TEST(Ranks, AFlightDirectoryThatOneAloneCannotMakeEndsAll) {
  const Ended ended = run_pair(quick_check, "env SYNCBN_FLIGHT_RECORD=/dev/null/x " + quick_check);
  EXPECT_EQ(ended.code, 2);
  EXPECT_LT(ended.seconds, 150);
  EXPECT_THAT(ended.out, testing::IsEmpty());
  EXPECT_EQ(count(ended.err, "rank 1: /dev/null/x cannot be made"), 1) << ended.err;
}

TEST(Ranks, OfAnotherLauncherAreRefusedAsSinglePrograms) {
  const Ended ended = run_shell("for rank in 0 1; do SLURM_STEP_NUM_TASKS=2 " + quick_check +
                                " || code=\\$?; done; exit \\$code");
  EXPECT_EQ(ended.code, 1);
  EXPECT_EQ(count(ended.err, "started as 2 processes by srun (SLURM_STEP_NUM_TASKS=2), but"), 2)
      << ended.err;
  const std::string within = "env SLURM_STEP_NUM_TASKS=3 " + quick_check;
  EXPECT_EQ(run_pair(within, within).code, 0) << "ranks that know of each other";
}

TEST(Ranks, AnElasticRunIsRefusedWhereMpiIsNot) {
  const Ended ended = run_ranks(2, "train --elastic");
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(count(ended.err, "--elastic cannot be had: "), 1) << ended.err;
}

TEST(Ranks, MissingDevicesAreToldOnce) {
  for (const std::string command : {"check --quick --dtype f32", "bench --shapes 4x4 --repeat 1"}) {
    const Ended ended = run_ranks(2, command + " --device cuda");
    if (ended.code == 0) {
      GTEST_SKIP() << "there are CUDA devices";
    }
    EXPECT_EQ(ended.code, 2) << ended.err;
    EXPECT_THAT(ended.out, testing::IsEmpty());
    EXPECT_EQ(count(ended.err, "--device cuda cannot be had ("), 1) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("or give --device "));
  }
}

TEST(Ranks, AFailureOfRank0AloneEndsAllOnce) {
  const Ended ended = run_ranks(2, "bench --shapes 4x4 --json /nonexistent/report.json");
  EXPECT_EQ(ended.code, 1);
  EXPECT_EQ(count(ended.err, "directory '/nonexistent': No such file"), 1) << ended.err;
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

TEST(Ranks, CheckComparesBitsWithOneProcess) {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "check.json").string();
  const Ended ended = run_ranks(3, "check --quick --exact --json " + file);
  ASSERT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_EQ(count(ended.out, "to the bit"), 1) << ended.out;
  const auto report = nlohmann::json::parse(read_file(file));
  EXPECT_EQ(report["exact"]["different"], 0);
  EXPECT_GT(report["exact"]["compared"], 1e6);
  EXPECT_GT(report["exact"]["different_by_default"], 100);
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
  // A rank that has mapped the shared memory is about to exchange.
  const std::string lost = "\\$(cat " + directory + "/*.pid | head -n 1)";
  return run_shell(
      mpirun() + " 3 sh -c '" + rank + "' & run=\\$!; until grep -qs memfd:syncbn /proc/" + lost +
      "/maps; do sleep 0.2; done; sleep 3; kill -" + signal + " " + lost + "; wait \\$run");
}

TEST(Ranks, AKilledRankEndsTheRun) {
  const Ended ended = lose_a_rank("KILL", "");
  EXPECT_NE(ended.code, 0);
  EXPECT_LT(ended.seconds, 150);
}

TEST(Ranks, AStuckRankEndsTheRunAfterTheTimeout) {
  const ScratchDirectory scratch;
  const std::string flight = (scratch / "flight").string();
  const Ended ended =
      lose_a_rank("STOP", "--timeout 10 --report-after 4 --flight-record " + flight);
  EXPECT_NE(ended.code, 0);
  EXPECT_LT(ended.seconds, 150);
  EXPECT_EQ(count(ended.err, "did not come within 4 s"), 2) << ended.err;
  EXPECT_GE(count(ended.err, "did not come within 10 s"), 2) << ended.err;
  EXPECT_THAT(ended.err,
              testing::ContainsRegex("its process [0-9]+ is stopped; the last it did: exchange #"));

  const Ended told = run_tool("info --flight-record " + flight);
  EXPECT_EQ(told.code, 0) << told.err;
  EXPECT_THAT(told.out, testing::AllOf(HasSubstr("group of 3 ranks"), HasSubstr("not finished"),
                                       HasSubstr("did not come within 10 s")));
}

TEST(Ranks, RanksThatDisagreeShowInTheirFlightRecords) {
  const ScratchDirectory scratch;
  const std::string entry =
      R"({"sequence": 1, "operation": "forward", "subject": "%s", "count": 64,)"
      R"( "dtype": "f32", "options": "", "facts": {}, "values": 130, "started": 200000.5,)"
      R"( "seconds": %s})";
  const auto write = [&](int rank, const char* layer, const char* seconds,
                         const std::string& group = "\"a1\"") {
    std::string exchange = entry;
    exchange.replace(exchange.find("%s"), 2, layer);
    exchange.replace(exchange.find("%s"), 2, seconds);
    static int files = 0;
    const std::filesystem::path file = scratch / (std::to_string(files++) + ".json");
    std::ofstream(file) << R"({"group": )" << group << R"(, "rank": )" << rank
                        << R"(, "size": 3, "host": "a", "process": 1, "failure": "",)"
                        << R"( "exchanges": [)" << exchange << "]}";
  };
  write(0, "bn1", "null");
  write(1, "bn2", "null");
  write(2, "bn1", "null");
  for (int rank = 0; rank < 3; ++rank) {  // another run, in the same directory
    write(rank, "bn3", "1e-6", "\"b2\"");
  }
  const Ended told = run_tool("info --flight-record " + scratch.path().string());
  EXPECT_EQ(count(told.out, "group of 3 ranks, 1970-01-0"), 2) << told.out;
  EXPECT_EQ(count(told.out, "the ranks part"), 1) << told.out;
  EXPECT_THAT(told.out, HasSubstr("the ranks part at exchange #1:\n"
                                  "  rank 0, 2: forward of 'bn1' (C=64, f32, 130 values)\n"
                                  "  rank 1: forward of 'bn2'"));

  write(0, "bn1", "null", "\"c3\"");
  write(2, "bn1", "null", "\"c3\"");
  EXPECT_THAT(
      run_tool("info --flight-record " + scratch.path().string()).out,
      HasSubstr("without a record (stopped, killed, or written on another host): rank 1\n"));

  write(0, "bn1", "null", "null");
  write(0, "bn1", "null", "null");
  std::filesystem::copy(scratch / "1.json", scratch / "another.json");
  EXPECT_THAT(run_tool("info --flight-record " + scratch.path().string()).out,
              testing::AllOf(HasSubstr("several groups that have no number"),
                             HasSubstr("A rank has several records")));

  std::filesystem::create_directory(scratch / "old.json");
  EXPECT_THAT(run_tool("info --flight-record " + scratch.path().string()).out,
              testing::AllOf(HasSubstr("rank 0 on a"), HasSubstr("old.json cannot be read")));

  std::ofstream(scratch / "1.json") << "{}";
  const Ended rest = run_tool("info --flight-record " + scratch.path().string());
  EXPECT_THAT(rest.out, HasSubstr("1.json is no flight record, or not a whole one"));
  EXPECT_THAT(rest.out, HasSubstr("rank 0 on a")) << "the others are shown";
  EXPECT_THAT(run_tool("info --flight-record /nonexistent").err, HasSubstr("cannot be read"));
}

}  // namespace
}  // namespace syncbn::test
