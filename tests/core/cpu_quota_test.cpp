// SPDX-License-Identifier: Apache-2.0
#include "core/cpu_quota.hpp"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "support/scratch_directory.hpp"

namespace syncbn::test {
namespace {

/// A tree of the files that Linux tells of control groups in.
class CpuQuota : public testing::Test {
 protected:
  void write(const std::string& file, const std::string& text) {
    const std::filesystem::path path = root_ / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::optional<double> quota() const { return cpu_quota(root_.path()); }

  ScratchDirectory root_;
};

TEST_F(CpuQuota, IsNoneWhereNothingIsTold) {
  EXPECT_EQ(quota(), std::nullopt);
  write("proc/self/cgroup", "0::/\nrubbish\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/cpu.max", "");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(CpuQuota, IsReadFromVersion2) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  EXPECT_EQ(quota(), 1.5);
}

TEST_F(CpuQuota, IsTheLeastOfTheGroupAndItsAncestors) {
  write("proc/self/cgroup", "0::/pod/container\n");
  write("sys/fs/cgroup/pod/container/cpu.max", "800000 100000\n");
  EXPECT_EQ(quota(), 8);
  write("sys/fs/cgroup/pod/cpu.max", "400000 100000\n");
  EXPECT_EQ(quota(), 4);
  write("sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 4);
}

TEST_F(CpuQuota, IsFoundAtTheMountWhereThePathIsTheOneOutside) {
  write("proc/self/cgroup", "0::/docker/0123abcd\n");
  write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(quota(), 2);
}

TEST_F(CpuQuota, IsReadFromVersion1) {
  write("proc/self/cgroup", "9:memory:/job\n2:cpuset:/job\n3:cpu,cpuacct:/job\n0::/\n");
  write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(quota(), 2.5);
}

TEST_F(CpuQuota, OfCpuSetsIsNotOneOfTime) {
  write("proc/self/cgroup", "2:cpuset:/job\n");
  write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "100000\n");
  write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST(ThreadsWithin, AreThePartOfTheQuotaRoundedUp) {
  EXPECT_EQ(threads_within(std::nullopt, 8), 8);
  EXPECT_EQ(threads_within(1.5, 8), 2);
  EXPECT_EQ(threads_within(2.0, 8), 2);
  EXPECT_EQ(threads_within(0.1, 8), 1);
  EXPECT_EQ(threads_within(1e9, 8), 8);
  EXPECT_EQ(threads_within(4.0, 8, 2), 2);
  EXPECT_EQ(threads_within(5.0, 8, 2), 3);
  EXPECT_EQ(threads_within(4.0, 1, 2), 1) << "processors that the launcher dealt out are kept";
  EXPECT_EQ(threads_within(2.0, 8, 64), 1);
}

}  // namespace
}  // namespace syncbn::test
