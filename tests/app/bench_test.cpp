// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using testing::HasSubstr;

const std::string tiny = "bench --shapes 4x3x5x5,6x10 --repeat 3 --min-time 0 ";

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

TEST(Bench, WritesEveryPhaseAsJson) {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "bench.json").string();
  const Ended ended = run_tool(tiny + "--compare onednn,local,exact --json " + file);
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto report = nlohmann::json::parse(read_file(file));
  EXPECT_EQ(report["ranks"], 1);
  EXPECT_EQ(report["dtype"], "f32");
  ASSERT_EQ(report["layers"].size(), 2);
  EXPECT_EQ(report["layers"][0]["positions"], 25);
  EXPECT_EQ(report["layers"][1]["positions"], 1);
  for (const char* phase :
       {"copy", "streaming_copy", "read", "sums", "exchange", "normalize", "forward",
        "backward_sums", "input_gradient", "backward", "onednn_forward", "onednn_backward",
        "local_forward", "local_backward", "exact_forward", "exact_backward"}) {
    for (const auto& layer : report["layers"]) {
      ASSERT_TRUE(layer["phases"].contains(phase)) << phase;
      const auto& times = layer["phases"][phase];
      EXPECT_EQ(times["repetitions"], 3) << phase;
      EXPECT_GT(times["min"], 0) << phase;
      EXPECT_LE(times["min"], times["lower_quartile"]) << phase;
      EXPECT_LE(times["lower_quartile"], times["median"]) << phase;
      EXPECT_LE(times["median"], times["upper_quartile"]) << phase;
      EXPECT_LE(times["upper_quartile"], times["max"]) << phase;
    }
  }
}

TEST(Bench, CountsTwoReadsAndAWriteForwardFourAndOneBackward) {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "bench.json").string();
  ASSERT_EQ(
      run_tool("bench --shapes 4x8x10x10 --dtype f64 --repeat 5 --min-time 0 --json " + file).code,
      0);
  const auto layer = nlohmann::json::parse(read_file(file))["layers"][0];
  const double bytes = 4 * 8 * 10 * 10 * 8;
  const auto passes = [&](const char* phase) {
    const auto& times = layer["phases"][phase];
    return times["gb_per_s"].get<double>() * 1e9 * times["median"].get<double>() / bytes;
  };
  EXPECT_NEAR(passes("read"), 1, 1e-9);
  EXPECT_NEAR(passes("copy"), 2, 1e-9);
  EXPECT_NEAR(passes("forward"), 3, 1e-9);
  EXPECT_NEAR(passes("backward"), 5, 1e-9);
  EXPECT_FALSE(layer["phases"]["exchange"].contains("gb_per_s"));
}

TEST(Bench, WritesALineOfCsvForEachShapeAndPhase) {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "bench.csv").string();
  ASSERT_EQ(run_tool(tiny + "--layout channels_last --csv " + file).code, 0);
  const std::vector<std::string> lines = lines_of(read_file(file));
  ASSERT_EQ(lines.size(), 1 + 2 * 10);
  EXPECT_THAT(lines[0], testing::StartsWith("shape,layers,phase,repetitions,median_s"));
  for (const std::string& line : lines) {
    EXPECT_EQ(std::ranges::count(line, ','), 9) << line;
  }
  EXPECT_THAT(lines[1], testing::StartsWith("4x3x5x5,1,copy,3,"));
}

TEST(Bench, FitsTheTerminal) {
  const Ended ended = run_tool(tiny + "--compare onednn");
  ASSERT_EQ(ended.code, 0) << ended.err;
  for (const std::string& line : lines_of(ended.out)) {
    EXPECT_LE(line.size(), 120) << line;
  }
}

TEST(Bench, KnowsResNet50) {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "bench.json").string();
  const Ended ended = run_tool("bench --batch 1 --repeat 1 --min-time 0 --json " + file);
  ASSERT_EQ(ended.code, 0) << ended.err;
  int layers = 0;
  const auto report = nlohmann::json::parse(read_file(file));
  for (const auto& layer : report["layers"]) {
    layers += layer["layers"].get<int>();
  }
  EXPECT_EQ(layers, 53);
}

TEST(Bench, SaysWhatOneDnnCannotDo) {
  const Ended ended = run_tool(tiny + "--dtype f64 --compare onednn");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("has no batch normalization of f64"));
}

}  // namespace
}  // namespace syncbn::test
