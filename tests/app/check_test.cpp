// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Check, PassesInASingleProcess) {
  const Ended ended = run_tool("check --quick");
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("PASS"));
  EXPECT_THAT(ended.out, HasSubstr("It needs two or more"));
}

TEST(Check, SaysThatExactNeedsMoreThanOneProcess) {
  const Ended ended = run_tool("check --quick --exact");
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("exact      not run"));
}

TEST(Check, PassesForOtherDataToo) {
  EXPECT_EQ(run_tool("check --quick --seed 18446744073709551615").code, 0);
}

TEST(Check, LooksAtTheChosenTypesAndLayoutsOnly) {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "check.json").string();
  const Ended ended =
      run_tool("check --quick --dtype bf16,f64 --layout channels_last --json " + file);
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  const auto report = nlohmann::json::parse(read_file(file));
  EXPECT_EQ(report["ranks"], 1);
  EXPECT_EQ(report["pass"], true);
  EXPECT_TRUE(report["local_control"].is_null());
  EXPECT_EQ(report["results"].size(), 2 * 9);
  for (const auto& result : report["results"]) {
    EXPECT_THAT(result["dtype"], testing::AnyOf("bf16", "f64"));
    EXPECT_LE(result["error"], result["tolerance"]) << result;
    EXPECT_THAT(result["case"].get<std::string>(), HasSubstr("channels_last"));
  }
}

TEST(Check, HoldsSinglePrecisionToTwoMillionthsOfTheOutput) {
  const ScratchDirectory scratch;
  const std::string file = (scratch.path() / "check.json").string();
  ASSERT_EQ(run_tool("check --dtype f32 --json " + file).code, 0);
  const auto report = nlohmann::json::parse(read_file(file));
  ASSERT_EQ(report["results"].size(), 9);
  for (const auto& result : report["results"]) {
    EXPECT_FALSE(result["case"].get<std::string>().empty()) << result;
    EXPECT_LE(result["tolerance"], 2e-6) << result;
  }
}

}  // namespace
}  // namespace syncbn::test
