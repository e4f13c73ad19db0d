// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/cuda.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/doctor/planted.hpp"

namespace syncbn::app::doctor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Cuda, WithADeviceForEachRankIsFine) {
  for (const Finding& one : find_about_cuda({healthy(), healthy()})) {
    EXPECT_EQ(one.verdict.severity, Severity::ok) << one.name << ": " << one.verdict.seen;
  }
}

TEST(Cuda, IsUnknownInABuildWithoutIt) {
  for (const char* build : {"none", "emulated"}) {
    std::vector<Facts> ranks = {healthy()};
    ranks[0].cuda = {.build = build,
                     .devices = {},
                     .runtime = "",
                     .driver = "",
                     .problem = "",
                     .with_nccl = false,
                     .nccl = "",
                     .nccl_problem = ""};
    for (const Finding& one : find_about_cuda(ranks)) {
      EXPECT_EQ(one.verdict.severity, Severity::unknown) << one.name << ": " << one.verdict.seen;
    }
  }
}

TEST(Cuda, WithAnOlderDriverIsAnError) {
  std::vector<Facts> ranks = {healthy()};
  ranks[0].cuda.driver = "11.8";
  const Finding found = finding(find_about_cuda(ranks), "cuda-driver");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen, HasSubstr("driver for CUDA 11.8, build for 12.4"));
  ranks[0].cuda.driver = "12.2";  // of the same major version
  EXPECT_EQ(severity(find_about_cuda(ranks), "cuda-driver"), Severity::ok);
  ranks[0].cuda.driver = "";
  EXPECT_EQ(severity(find_about_cuda(ranks), "cuda-driver"), Severity::unknown);
}

TEST(Cuda, WithoutADeviceIsAWarningOfThatRank) {
  std::vector<Facts> ranks = {healthy(), healthy()};
  ranks[1].cuda.devices.clear();
  const Finding found = finding(find_about_cuda(ranks), "cuda-device");
  EXPECT_EQ(found.verdict.severity, Severity::warning);
  EXPECT_THAT(found.ranks, ElementsAre(1));
}

TEST(Cuda, WithTwoRanksOnOneDeviceIsAWarning) {
  const std::vector<Facts> ranks(3, healthy());  // two devices
  const Finding found = finding(find_about_cuda(ranks), "shared-device");
  EXPECT_EQ(found.verdict.severity, Severity::warning);
  EXPECT_THAT(found.ranks, ElementsAre(0, 2));
  EXPECT_EQ(severity(find_about_cuda({healthy(1), healthy(1), healthy(2)}), "shared-device"),
            Severity::ok);
}

TEST(Cuda, WithoutAnNcclThatWillDoIsAWarning) {
  std::vector<Facts> ranks = {healthy(), healthy()};
  ranks[1].cuda.nccl = "";
  ranks[1].cuda.nccl_problem = "NCCL 2.18 is too old";
  const Finding found = finding(find_about_cuda(ranks), "nccl");
  EXPECT_EQ(found.verdict.severity, Severity::warning);
  EXPECT_THAT(found.verdict.seen, HasSubstr("2.18"));
  ranks[0].cuda.with_nccl = ranks[1].cuda.with_nccl = false;
  EXPECT_EQ(severity(find_about_cuda(ranks), "nccl"), Severity::unknown);
}

}  // namespace
}  // namespace syncbn::app::doctor
