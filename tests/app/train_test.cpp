// SPDX-License-Identifier: Apache-2.0
//
// syncbn train, and the files that it reads and writes.
#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "app/run_tool.hpp"
#include "trainer/idx_files.hpp"

namespace syncbn::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

/// A small data set, and the tool at work on it.
class Train : public testing::Test {
 protected:
  Train() {
    std::filesystem::create_directory(directory_ / "data");
    write_data_set(directory_ / "data", 100, 50, 8);
  }

  std::string file(const std::string& name) const { return (directory_ / name).string(); }

  Ended train(const std::string& options, const std::string& data = "data") const {
    return run_tool("train --batch-size 20 --data " + file(data) + " " + options);
  }

  TemporaryDirectory directory_;
};

std::vector<double> losses_in(const std::string& log) {
  std::vector<double> losses;
  std::ifstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    losses.push_back(nlohmann::json::parse(line)["loss"].get<double>());
  }
  return losses;
}

TEST_F(Train, TakesADataSetOf47Classes) {
  std::filesystem::create_directory(directory_ / "emnist");
  write_data_set(directory_ / "emnist", 940, 470, 12, 1, 47);
  const std::string network = "--learning-rate 0.1 --save " + file("save") + " ";
  const Ended ended = train(network + "--steps 90 --log " + file("log"), "emnist");
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("940 images of 12x12 in 47 classes"));
  std::vector<nlohmann::json> steps;
  std::ifstream log(file("log"));
  for (std::string line; std::getline(log, line);) {
    steps.push_back(nlohmann::json::parse(line));
  }
  ASSERT_EQ(steps.size(), 90);
  // The weights behind the logits begin small: all classes are about equally likely.
  EXPECT_NEAR(steps.front()["loss"].get<double>(), std::log(47.0), 0.2);
  EXPECT_GT(steps.back()["test_accuracy"].get<double>(), 0.1) << "guessing finds one of 47";

  EXPECT_THAT(train("--steps 91 --resume " + file("save"), "data").err,
              HasSubstr("belongs to another run"));
}

TEST_F(Train, KeepsTheLastGoodCheckpointOfARunThatDiverges) {
  const std::string save = file("save");
  ASSERT_EQ(train("--steps 1 --save " + save).code, 0);
  const std::string good = read_file(save);
  for (const std::string rate : {"1e43", "1e39"}) {
    const Ended ended =
        train("--steps 3 --learning-rate " + rate + " --save-every 1 --save " + save);
    EXPECT_EQ(ended.code, 1) << rate;
    EXPECT_THAT(ended.err, AllOf(HasSubstr("is not replaced"), HasSubstr("after step 1"),
                                 HasSubstr("diverged"), HasSubstr("--learning-rate")))
        << rate;
    EXPECT_TRUE(read_file(save) == good) << rate;
  }
}

TEST_F(Train, RefusesOneFileForTwoPurposes) {
  for (const std::string option : {"--save", "--resume"}) {
    const Ended ended = train("--steps 1 --log " + file("x") + " " + option + " " + file("./x"));
    EXPECT_EQ(ended.code, 2) << option;
    EXPECT_THAT(ended.err, HasSubstr("are the same file")) << option;
  }
  EXPECT_FALSE(std::filesystem::exists(file("x")));
  EXPECT_EQ(train("--steps 1 --save " + file("save")).code, 0);
  EXPECT_EQ(train("--steps 2 --schedule constant --save " + file("save")).code, 0);
}

TEST_F(Train, RefusesACheckpointThatCannotBeWrittenBeforeTraining) {
  ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
  for (const std::string& save :
       {file("missing/save"), file("."), file("pipe"), std::string("/dev/null"),
        std::string("/dev/full"), std::string("/proc/self/save"), file(std::string(256, 'x'))}) {
    const Ended ended = train("--steps 1 --save " + save);
    EXPECT_EQ(ended.code, 1) << save;
    EXPECT_THAT(ended.out, IsEmpty()) << save;
    EXPECT_THAT(ended.err, HasSubstr(save)) << save;
    EXPECT_THAT(ended.err, testing::MatchesRegex("[^\n]*\\)\\. [A-Z][^\n]*[.?]\n"))
        << save << ": no advice";
  }
}

TEST_F(Train, RefusesACheckpointThatCannotBeReadWithAdvice) {
  std::ofstream(file("foreign")) << "hello";
  for (const std::string& resume : {file("missing"), file("."), file("foreign")}) {
    const Ended ended = train("--steps 1 --resume " + resume);
    EXPECT_EQ(ended.code, 1) << resume;
    EXPECT_THAT(ended.err, AllOf(HasSubstr(resume), HasSubstr("). Give a file that --save has"),
                                 HasSubstr("without --resume")));
  }
}

TEST_F(Train, SaysThatABatchHasAllImagesWhereMoreAreAskedFor) {
  const Ended all = run_tool("train --batch-size 200 --steps 1 --data " + file("data"));
  EXPECT_THAT(all.out,
              HasSubstr("100 samples a step (all there are; --batch-size is 200), 1 step\n"));
  EXPECT_THAT(train("--steps 2").out, HasSubstr("20 samples a step, 2 steps\n"));
}

TEST_F(Train, WritesACheckpointOfTheLongestName) {
  const std::string save = file(std::string(255, 'x'));
  EXPECT_EQ(train("--steps 1 --save " + save).code, 0);
  EXPECT_TRUE(std::filesystem::exists(save));
}

TEST_F(Train, LeavesAFileThatIsNoLogAsItIs) {
  std::ofstream(file("thesis.tex")) << "\\documentclass{article}\n";
  const Ended ended = train("--steps 1 --log " + file("thesis.tex"));
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("thesis.tex is not overwritten (line 1 is not of a step"),
                               HasSubstr("Give --log another file")));
  EXPECT_EQ(read_file(file("thesis.tex")), "\\documentclass{article}\n");
}

TEST_F(Train, RefusesPipesThatNobodyIsAtTheOtherEndOf) {
  ASSERT_EQ(::mkfifo(file("log").c_str(), 0600), 0);
  const Ended unread = train("--steps 1 --log " + file("log"));
  EXPECT_EQ(unread.code, 1);
  EXPECT_THAT(unread.err, HasSubstr("nobody reads this pipe"));

  std::filesystem::remove(directory_ / "data" / "t10k-labels-idx1-ubyte");
  ASSERT_EQ(::mkfifo(file("data/t10k-labels-idx1-ubyte").c_str(), 0600), 0);
  const Ended unwritten = train("--steps 1");
  EXPECT_EQ(unwritten.code, 1);
  EXPECT_THAT(unwritten.err,
              HasSubstr("t10k-labels-idx1-ubyte cannot be read (it is not a regular"));
}

TEST_F(Train, NamesTheFileThatMemoryRanOutFor) {
  const std::string limit = at_most_memory(1'500'000'000);
  if (limit.empty()) {
    GTEST_SKIP() << "memory cannot be limited in this build";
  }
  // Of zeros, which take no place on the disk.
  const auto images = [&](const std::string& part, std::uint32_t count) {
    const std::filesystem::path path = file("data/" + part + "-images-idx3-ubyte");
    std::filesystem::remove(path.string() + ".gz");
    write_file(path, idx_bytes({count, 4096, 4096}, {}));
    std::filesystem::resize_file(path, 16 + std::uintmax_t{count} * 4096 * 4096);
  };
  images("train", 100);
  images("t10k", 50);
  const Ended ended =
      run_shell(limit + "OMP_NUM_THREADS=1 exec " SYNCBN_PROGRAM " train --data " + file("data"));
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("train-images-idx3-ubyte cannot be read (memory ran out"),
                               HasSubstr("1677721600 bytes")));
}

/// The log, the first file that stays open, would get the number of the stream that is closed.
TEST_F(Train, WritesNothingElseIntoItsLogWhereStandardOutputIsClosed) {
  const Ended ended = train("--steps 2 --log " + file("log") + " 1>&- 2>&-");
  EXPECT_EQ(ended.code, 1);
  std::ifstream log(file("log"));
  int lines = 0;
  for (std::string line; std::getline(log, line); ++lines) {
    EXPECT_TRUE(nlohmann::json::accept(line)) << line;
  }
  EXPECT_EQ(lines, 2);
}

TEST_F(Train, StopsOnASignalAndGoesOnAsIfItHadNot) {
  const std::string common = "--schedule constant --log " + file("log");
  for (const std::string signal : {"USR1", "TERM"}) {
    const std::string command = "OMP_NUM_THREADS=1 " SYNCBN_PROGRAM
                                " train --batch-size 20 --data " +
                                file("data") + " --steps 100000000 " + common;
    const std::string strike = " & process=\\$!; until test -s " + file("log") +
                               "; do sleep 0.01; done; kill -" + signal +
                               " \\$process; wait \\$process";
    std::filesystem::remove(file("log"));
    const Ended stopped = run_shell(command + " --save " + file("save") + strike);
    EXPECT_EQ(stopped.code, 75) << signal << stopped.err;
    EXPECT_THAT(stopped.out, HasSubstr("stopped by a signal after step"));
    const std::string before = read_file(file("log"));
    const auto done = std::count(before.begin(), before.end(), '\n');
    EXPECT_EQ(
        train("--steps " + std::to_string(done + 5) + " " + common + " --resume " + file("save"))
            .code,
        0);
    const std::vector<double> losses = losses_in(file("log"));
    EXPECT_EQ(train("--steps " + std::to_string(done + 5) + " " + common).code, 0);
    EXPECT_EQ(losses, losses_in(file("log"))) << signal;
    EXPECT_EQ(losses.size(), static_cast<std::size_t>(done + 5));

    std::filesystem::remove(file("log"));
    EXPECT_EQ(run_shell(command + strike).code, signal == "TERM" ? 128 + SIGTERM : 128 + SIGUSR1)
        << "without a checkpoint the signal ends it";
  }
}

TEST_F(Train, WritesItsLogIntoAPipe) {
  const Ended ended = run_shell(
      "mkfifo " + file("log") + "; cat " + file("log") + " >" + file("copy") +
      " & OMP_NUM_THREADS=1 " SYNCBN_PROGRAM " train --batch-size 20 --data " + file("data") +
      " --steps 2 --log " + file("log") + "; code=\\$?; wait; exit \\$code");
  EXPECT_EQ(ended.code, 0) << ended.err;
  const std::string copy = read_file(file("copy"));
  EXPECT_EQ(std::count(copy.begin(), copy.end(), '\n'), 2);
}

}  // namespace
}  // namespace syncbn::test
