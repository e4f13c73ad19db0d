// SPDX-License-Identifier: Apache-2.0
//
// Files that the tool writes, and how they are named.
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/run_tool.hpp"
#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string quick_bench = "bench --shapes 4x4 --repeat 1 --min-time 0";

class OneFile : public testing::Test {
 protected:
  void expect_refused(const std::string& csv) {
    const Ended ended = run_tool(quick_bench + " --json " + json_ + " --csv " + csv);
    EXPECT_EQ(ended.code, 2) << csv;
    EXPECT_THAT(ended.out, IsEmpty());
    EXPECT_THAT(ended.err, AllOf(HasSubstr("--json " + json_), HasSubstr("--csv " + csv),
                                 HasSubstr("are the same file")));
  }

  ScratchDirectory scratch_;
  std::string json_ = (scratch_ / "report").string();
};

TEST_F(OneFile, NamedTwiceIsRefused) {
  expect_refused(json_);
  expect_refused((scratch_ / "." / "report").string());
  expect_refused((scratch_ / "none" / ".." / "report").string());
}

TEST_F(OneFile, NamedByALinkIsRefused) {
  std::filesystem::create_symlink("report", scratch_ / "link");
  expect_refused((scratch_ / "link").string());
  std::filesystem::create_directory_symlink(scratch_.path(), scratch_ / "directory");
  expect_refused((scratch_ / "directory" / "report").string());
}

TEST_F(OneFile, NamedByAHardLinkIsRefused) {
  run_tool(quick_bench + " --json " + json_);
  std::filesystem::create_hard_link(json_, scratch_ / "hard");
  expect_refused((scratch_ / "hard").string());
}

TEST(TwoFiles, AreBothWritten) {
  const ScratchDirectory scratch;
  const std::string json = (scratch / "report").string();
  const std::string csv = (scratch / "--csv").string();
  const Ended ended =
      run_shell("cd " + scratch.path().string() +
                " && exec " SYNCBN_PROGRAM " bench --shapes 4x4 --repeat 1 --min-time 0 --json " +
                json + " --csv=--csv");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(read_file(json), testing::StartsWith("{"));
  EXPECT_THAT(read_file(csv), HasSubstr(","));
}

}  // namespace
}  // namespace syncbn::test
