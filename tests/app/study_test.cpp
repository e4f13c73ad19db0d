// SPDX-License-Identifier: Apache-2.0
//
// `syncbn study` as its users start it: what it leaves, and that a killed study goes on.
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"
#include "trainer/idx_files.hpp"

namespace syncbn::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

namespace fs = std::filesystem;

/// A small data set, and studies of it that take seconds.
class Study : public testing::Test {
 protected:
  Study() {
    fs::create_directory(data_);
    write_data_set(data_, 100, 50, 8);
  }

  std::string arguments(const std::string& more, const std::string& output = "study") const {
    return "study --seeds 2 --steps 4 --data '" + data_.string() + "' --output " +
           (scratch_ / output).string() + " " + more;
  }
  json report(const std::string& output = "study") const {
    return json::parse(read_file(scratch_ / output / "study.json"));
  }
  /// Returns the runs' files with their contents.
  std::map<std::string, std::string> runs() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(scratch_ / "study/runs")) {
      if (entry.path().extension() == ".json") {
        files[entry.path().filename()] = read_file(entry.path());
      }
    }
    return files;
  }

  ScratchDirectory scratch_;
  fs::path data_ = scratch_ / "data set";
};

TEST_F(Study, GivesAVerdictOfEachExperiment) {
  const Ended ended = run_tool(arguments(""));
  ASSERT_EQ(ended.code, 0) << ended.err;
  const json study = report();
  EXPECT_EQ(study["format"], "syncbn study 1");
  EXPECT_EQ(study["seeds"], (json{1, 2}));
  EXPECT_EQ(study["data"]["training_images"], 100);
  std::vector<std::string> names;
  const std::set<std::string> verdicts{"held", "did not hold", "not decided"};
  for (const json& experiment : study["experiments"]) {
    const std::string name = experiment["name"];
    names.push_back(name);
    EXPECT_THAT(verdicts, testing::Contains(experiment["verdict"].get<std::string>()));
    EXPECT_THAT(experiment.dump(), Not(HasSubstr("nan"))) << "there are four steps";
    EXPECT_THAT(ended.out, HasSubstr("\n" + name));
    bool has_control = false;
    for (const json& claim : experiment["claims"]) {
      EXPECT_EQ(claim["values"].size(), 2) << claim;
      has_control = has_control || (claim["control"] &&
                                    claim["quantity"].get<std::string>().find("scale and shift") !=
                                        std::string::npos);
    }
    EXPECT_TRUE(has_control) << name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"faster-training", "activations", "learning-rates",
                                             "parameter-scale", "saturating", "regularization",
                                             "synchronize", "group-size", "leakage"}));
  EXPECT_THAT(ended.out, HasSubstr("python -m syncbn.report"));
}

TEST_F(Study, HasTheSameValuesAsATrainingByHand) {
  ASSERT_EQ(run_tool(arguments("--experiments faster-training")).code, 0);
  const json study = report();
  for (const json& run : study["runs"]) {
    std::string command = run["command"];
    ASSERT_TRUE(command.starts_with("syncbn train ")) << command;
    const Ended by_hand = run_tool(command.substr(7) + " --log " + (scratch_ / "log").string());
    ASSERT_EQ(by_hand.code, 0) << by_hand.err;
    std::ifstream log(scratch_ / "log");
    json last;
    for (std::string line; std::getline(log, line);) {
      last = json::parse(line);
    }
    EXPECT_EQ(last["test_accuracy"], run["results"]["final"]["test_accuracy"]) << command;
    EXPECT_EQ(last["loss"], run["results"]["final"]["loss"]) << command;
    fs::remove(scratch_ / "log");
  }
}

TEST_F(Study, SharesTheRunsOfTwoExperiments) {
  ASSERT_EQ(run_tool(arguments("--experiments activations")).code, 0);
  const json study = report();
  EXPECT_EQ(study["runs"].size(), 6);
  EXPECT_EQ(study["runs"][0]["experiments"], (json{"faster-training", "activations"}));
  EXPECT_TRUE(study["runs"][0]["results"]["series"].contains("hidden_p50"));
}

TEST_F(Study, WritesALineOfCsvForEachNumber) {
  ASSERT_EQ(run_tool(arguments("--experiments synchronize")).code, 0);
  std::ifstream csv(scratch_ / "study/study.csv");
  std::string line;
  ASSERT_TRUE(std::getline(csv, line));
  EXPECT_EQ(line, "experiment,run,norm,ranks,samples,shards,seed,quantity,step,value");
  std::size_t lines = 0;
  while (std::getline(csv, line)) {
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), 9) << line;
    ++lines;
  }
  std::size_t numbers = 0;
  const json study = report();
  for (const json& run : study["runs"]) {
    const json& results = run["results"];
    numbers += (results["series"].size() - 1) * results["series"]["step"].size();  // not of steps
    numbers += results["final"].size() + 1;  // and where it diverged
  }
  EXPECT_EQ(lines, numbers);
}

TEST_F(Study, GoesOnWhereItWasKilled) {
  const std::string command = arguments("--experiments learning-rates,leakage");
  std::ofstream(scratch_ / "kill_after_some_runs")
      << "OMP_NUM_THREADS=1 " SYNCBN_PROGRAM " " << command << " &\n"
      << "while kill -0 $! && [ $(ls " << (scratch_ / "study/runs").string()
      << " | grep -c 'json$') -lt 5 ]\ndo sleep 0.01; done\nkill -KILL $!\nwait $!\n";
  const Ended killed = run_shell("sh " + (scratch_ / "kill_after_some_runs").string());
  ASSERT_EQ(killed.code, 128 + 9) << killed.err;
  EXPECT_FALSE(fs::exists(scratch_ / "study/study.json"));
  const auto before = runs();
  EXPECT_GE(before.size(), 5);
  const Ended ended = run_tool(command);
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("of them done already"));
  const auto after = runs();
  for (const auto& [name, text] : before) {
    EXPECT_EQ(after.at(name), text) << name;
  }
  EXPECT_EQ(report()["sittings"], 2);

  ASSERT_EQ(run_tool(arguments("--experiments learning-rates,leakage", "uninterrupted")).code, 0);
  EXPECT_EQ(read_file(scratch_ / "study/study.csv"),
            read_file(scratch_ / "uninterrupted/study.csv"));
}

TEST_F(Study, RefusesTheDirectoryOfAnother) {
  ASSERT_EQ(run_tool(arguments("--experiments activations")).code, 0);
  const auto before = runs();
  for (const char* other : {"--experiments synchronize", "--experiments activations --first-seed 2",
                            "--experiments activations --budget full"}) {
    const Ended ended = run_tool(arguments(other));
    EXPECT_EQ(ended.code, 1) << other;
    EXPECT_THAT(ended.err, AllOf(HasSubstr("has what another run measured"),
                                 HasSubstr("Choose another --output")))
        << other;
  }
  write_data_set(data_, 100, 50, 8, 2);
  const Ended other_data = run_tool(arguments("--experiments activations"));
  EXPECT_EQ(other_data.code, 1);
  EXPECT_THAT(other_data.err, HasSubstr("checksums"));
  EXPECT_EQ(runs(), before);
}

TEST_F(Study, RefusesTheDirectoryOfOtherSettings) {
  ASSERT_EQ(run_tool(arguments("--experiments activations")).code, 0);
  const auto before = runs();
  const fs::path file = scratch_ / "study/run.json";
  json run = json::parse(read_file(file));
  run["identity"]["settings"] = "00000000";  // as if by a program with another learning rate
  std::ofstream(file) << run;
  const Ended ended = run_tool(arguments("--experiments activations"));
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("settings: \"00000000\" there"));
  EXPECT_EQ(runs(), before);
}

TEST_F(Study, GoesOnWithExperimentsInAnotherOrderAndDataElsewhere) {
  ASSERT_EQ(run_tool(arguments("--experiments regularization,leakage")).code, 0);
  const auto before = runs();
  fs::rename(data_, scratch_ / "moved");
  data_ = scratch_ / "moved";
  const Ended ended = run_tool(arguments("--experiments leakage,regularization"));
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr(std::to_string(before.size()) + " of them done already"));
  EXPECT_EQ(runs(), before);
}

TEST_F(Study, RefusesARunThatItDidNotWrite) {
  ASSERT_EQ(run_tool(arguments("--experiments activations")).code, 0);
  std::ofstream(scratch_ / "study/runs/faster-training-sync-1.json") << "{\"order\": 1}";
  const Ended ended = run_tool(arguments("--experiments activations"));
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("faster-training-sync-1.json is no run"));
}

TEST_F(Study, LeavesOneSeedUndecided) {
  ASSERT_EQ(run_tool("study --seeds 1 --steps 4 --experiments activations --data '" +
                     data_.string() + "' --output " + (scratch_ / "study").string())
                .code,
            0);
  EXPECT_EQ(report()["experiments"][0]["verdict"], "not decided");
  EXPECT_TRUE(report()["experiments"][0]["claims"][0]["low"].is_null());
}

TEST_F(Study, TellsWhatIsWrongWithTheCommandLine) {
  const Ended nowhere = run_tool("study");
  EXPECT_EQ(nowhere.code, 2);
  EXPECT_THAT(nowhere.err, HasSubstr("--output is missing"));
  const Ended unknown = run_tool(arguments("--experiments leakages"));
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, AllOf(HasSubstr("'leakages'"), HasSubstr("Did you mean 'leakage'?")));
  const Ended too_far =
      run_tool(arguments("--experiments leakage --first-seed 18446744073709551615"));
  EXPECT_EQ(too_far.code, 2);
  EXPECT_THAT(too_far.err, HasSubstr("at most 18446744073709551614 with 2 seeds"));
  const Ended no_data = run_tool("study --data " + scratch_.path().string() + " --output " +
                                 (scratch_ / "study").string());
  EXPECT_EQ(no_data.code, 1);
  EXPECT_THAT(no_data.err, HasSubstr("train-images-idx3-ubyte"));
  EXPECT_FALSE(fs::exists(scratch_ / "study"));
}

}  // namespace
}  // namespace syncbn::test
