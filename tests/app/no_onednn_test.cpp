// SPDX-License-Identifier: Apache-2.0

// The tool in a build without oneDNN.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/run_tool.hpp"

namespace syncbn::test {
namespace {

using testing::HasSubstr;

TEST(NoOneDnn, InfoSaysSo) {
  EXPECT_THAT(run_tool("info").out, HasSubstr("oneDNN no"));
}

TEST(NoOneDnn, TrainSaysHowToGetIt) {
  const Ended ended = run_tool("train --steps 1");
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("-DSYNCBN_ONEDNN=ON"));
}

TEST(NoOneDnn, BenchTimesTheOthers) {
  const Ended ended =
      run_tool("bench --shapes 4x3x5x5 --repeat 1 --min-time 0 --compare onednn,local");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("none: no oneDNN"));
  EXPECT_THAT(ended.out, HasSubstr("local forward"));
}

}  // namespace
}  // namespace syncbn::test
