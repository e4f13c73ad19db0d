// SPDX-License-Identifier: Apache-2.0
//
// `syncbn study` under mpirun: the ranks share the runs, and the results do not depend on them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"
#include "trainer/idx_files.hpp"

namespace syncbn::test {
namespace {

using nlohmann::json;

/// Returns what a study found, without when and where.
std::string findings_of(const std::filesystem::path& directory) {
  json study = json::parse(read_file(directory / "study.json"));
  for (json& run : study["runs"]) {
    run.erase("seconds");
  }
  return study["runs"].dump() + study["experiments"].dump();
}

TEST(StudyRanks, DoNotChangeABit) {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "data");
  write_data_set(scratch / "data", 100, 50, 8);
  const std::string arguments =
      "study --seeds 2 --steps 4 --experiments "
      "faster-training,parameter-scale,synchronize,group-size "
      "--data " +
      (scratch / "data").string() + " --output ";
  for (const int ranks : {1, 2, 3}) {
    const auto output = scratch / std::to_string(ranks);
    const Ended ended = run_ranks(ranks, arguments + output.string());
    ASSERT_EQ(ended.code, 0) << ended.err;
    EXPECT_TRUE(findings_of(output) == findings_of(scratch / "1")) << ranks << " ranks";
    EXPECT_TRUE(read_file(output / "study.csv") == read_file(scratch / "1/study.csv"));
  }
}

TEST(StudyRanks, GoOnWithWhatOthersLeft) {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "data");
  write_data_set(scratch / "data", 100, 50, 8);
  const std::string arguments = "study --seeds 2 --steps 4 --experiments leakage --data " +
                                (scratch / "data").string() + " --output " +
                                (scratch / "study").string();
  ASSERT_EQ(run_ranks(2, arguments).code, 0);
  const std::string whole = findings_of(scratch / "study");
  std::filesystem::remove(scratch / "study/runs/leakage-local-by-label-1.json");
  std::filesystem::remove(scratch / "study/runs/leakage-sync-mixed-2.json");
  const Ended ended = run_ranks(3, arguments);
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, testing::HasSubstr("14 of them done already"));
  EXPECT_EQ(findings_of(scratch / "study"), whole);
}

}  // namespace
}  // namespace syncbn::test
