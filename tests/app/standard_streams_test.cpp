// SPDX-License-Identifier: Apache-2.0
//
// What the tool does where its standard streams cannot be written.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/run_tool.hpp"

namespace syncbn::test {
namespace {

using testing::HasSubstr;

const std::string quick_check = "check --quick --dtype f32";

/// The tool with redirections of its own.
Ended redirected(const std::string& arguments_and_redirections) {
  return run_shell("OMP_NUM_THREADS=1 exec " SYNCBN_PROGRAM " " + arguments_and_redirections);
}

TEST(StandardError, ThatCannotBeWrittenLeavesTheExitCode) {
  for (const std::string redirection : {"2>/dev/full", "2>&-"}) {
    EXPECT_EQ(redirected("train --nope " + redirection).code, 2) << redirection;
    EXPECT_EQ(redirected("chek " + redirection).code, 2) << redirection;
    EXPECT_EQ(redirected(redirection).code, 2) << redirection;
    EXPECT_EQ(redirected("check --json /nonexistent/x " + redirection).code, 1) << redirection;
    EXPECT_EQ(redirected(quick_check + " " + redirection).code, 0) << redirection;
  }
}

TEST(StandardOutput, ThatCannotBeWrittenIsAFailure) {
  for (const std::string redirection : {">/dev/full", ">&-"}) {
    for (const std::string& command :
         {std::string("--help"), std::string("--version"), std::string("info"),
          std::string("bench --shapes 4x4 --repeat 1 --min-time 0"), quick_check}) {
      const Ended ended = redirected(command + " " + redirection);
      EXPECT_EQ(ended.code, 1) << command << redirection;
      EXPECT_THAT(ended.err, HasSubstr("standard output cannot be written")) << command;
    }
    EXPECT_EQ(redirected("--version 2>/dev/full " + redirection).code, 1) << redirection;
  }
}

}  // namespace
}  // namespace syncbn::test
