// SPDX-License-Identifier: Apache-2.0
#include "trainer/step_log.hpp"

#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "syncbn/error.hpp"

#include "trainer/idx_files.hpp"

namespace syncbn::trainer {
namespace {

std::vector<nlohmann::json> lines(const std::filesystem::path& file) {
  std::vector<nlohmann::json> objects;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    objects.push_back(nlohmann::json::parse(line));
  }
  return objects;
}

StepReport report(std::int64_t step, double loss) {
  StepReport result;
  result.step = step;
  result.epoch = 1;
  result.images = 64;
  result.loss = loss;
  result.times.total = 0.5;
  result.times.batch_norm = 0.125;
  result.times.gradient_exchange = 0.25;
  return result;
}

TEST(StepLog, HasAnObjectForEachStep) {
  const test::TemporaryDirectory directory;
  StepLog log(directory / "log", 1);
  log.write(report(1, 2.5));
  StepReport last = report(2, 0.1);
  last.test_accuracy = 0.75;
  log.write(last);
  const auto objects = lines(directory / "log");
  ASSERT_EQ(objects.size(), 2);
  EXPECT_EQ(objects[0]["step"], 1);
  EXPECT_EQ(objects[0]["loss"], 2.5);
  EXPECT_EQ(objects[0]["images_per_s"], 128);
  EXPECT_EQ(objects[0]["batch_norm_share"], 0.25);
  EXPECT_EQ(objects[0]["exchange_share"], 0.5);
  EXPECT_FALSE(objects[0].contains("test_accuracy"));
  EXPECT_EQ(objects[1]["loss"], 0.1);
  EXPECT_EQ(objects[1]["test_accuracy"], 0.75);
}

/// A run that was killed may have logged steps beyond its last checkpoint, the last line in part.
TEST(StepLog, GoesOnBehindTheStepsThatCount) {
  const test::TemporaryDirectory directory;
  {
    StepLog log(directory / "log", 1);
    for (const int step : {1, 2, 3}) {
      log.write(report(step, step));
    }
  }
  std::ofstream(directory / "log", std::ios::app) << R"({"step":4,"lo)";
  StepLog(directory / "log", 3).write(report(3, 30));
  const auto objects = lines(directory / "log");
  ASSERT_EQ(objects.size(), 3);
  EXPECT_EQ(objects[1]["loss"], 2);
  EXPECT_EQ(objects[2]["loss"], 30);

  StepLog(directory / "log", 1).write(report(1, 10));
  EXPECT_EQ(lines(directory / "log").size(), 1);
}

TEST(StepLog, LeavesAFileWithOtherLinesAsItIs) {
  const test::TemporaryDirectory directory;
  const std::filesystem::path file = directory / "file";
  const std::string others[] = {
      "notes\n",
      "notes",
      "\n",
      R"({"step":"1"})"
      "\n",
      R"({"step":null})"
      "\n",
      R"({"step":1.5})"
      "\n",
      R"([{"step":1}])"
      "\n",
      R"({"loss":1})"
      "\n",
      R"({"step":1})"
      "\nnotes\n"
      R"({"step":2})"
      "\n",
      std::string(1000, '\0'),
      std::string(100'000, '['),
  };
  for (const std::string& text : others) {
    for (const int first_step : {1, 3}) {
      std::ofstream(file) << text;
      EXPECT_THROW(StepLog(file, first_step), FileError) << text;
      const test::Bytes left = test::read_bytes(file);
      EXPECT_EQ(std::string(left.begin(), left.end()), text);
    }
  }
}

TEST(StepLog, ThatBreaksOffInItsFirstLineIsBegunAnew) {
  const test::TemporaryDirectory directory;
  for (const char* text : {R"({"step":1,"lo)", R"({"st)", ""}) {
    std::ofstream(directory / "log") << text;
    StepLog(directory / "log", 1).write(report(1, 2.5));
    EXPECT_EQ(lines(directory / "log").size(), 1);
  }
}

TEST(StepLog, IntoAPipeThatNobodyReadsIsRefused) {
  const test::TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "log").c_str(), 0600), 0);
  EXPECT_THROW(StepLog(directory / "log", 1), FileError);
}

TEST(StepLog, ThatCannotBeWrittenIsRefused) {
  const test::TemporaryDirectory directory;
  EXPECT_THROW(StepLog(directory / "missing" / "log", 1), FileError);
  EXPECT_THROW(StepLog(directory.path(), 1), FileError);
}

}  // namespace
}  // namespace syncbn::trainer
