// SPDX-License-Identifier: Apache-2.0
//
// What a host grants its ranks: shared memory, limits, clocks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/doctor/clocks.hpp"
#include "app/doctor/limits.hpp"
#include "app/doctor/planted.hpp"
#include "app/doctor/shared_memory.hpp"

namespace syncbn::app::doctor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class System : public PlantedSystem {};

constexpr double mib = 1 << 20;

TEST_F(System, SharedMemoryIsTriedByMakingAFile) {
  EXPECT_THAT(read_shared_memory(root()).problem, HasSubstr("No such file"));
  std::filesystem::create_directories(root() / "dev/shm");
  const SharedMemoryFacts facts = read_shared_memory(root());
  EXPECT_EQ(facts.problem, "");
  EXPECT_GT(facts.bytes, 0);
  EXPECT_TRUE(std::filesystem::is_empty(root() / "dev/shm")) << "the file is removed";
}

TEST(SharedMemory, ThatIsLargeEnoughIsFine) {
  const std::vector<Facts> ranks(8, healthy());
  EXPECT_EQ(severity(find_about_shared_memory(ranks), "shared-memory"), Severity::ok);
}

TEST(SharedMemory, TooSmallForTheRanksIsAnErrorThatSaysHowMuchTheyNeed) {
  std::vector<Facts> ranks(32, healthy());
  for (Facts& facts : ranks) {
    facts.shared_memory = {.problem = "", .bytes = 100 * mib, .free = 99 * mib};
  }
  const Finding found = finding(find_about_shared_memory(ranks), "shared-memory");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen, HasSubstr("100 MiB, 99 of them free; MPI may take 128 for 32"));
  EXPECT_THAT(found.verdict.advice, HasSubstr("--shm-size"));
  ranks.resize(24, healthy());
  EXPECT_EQ(severity(find_about_shared_memory(ranks), "shared-memory"), Severity::ok);
}

TEST(SharedMemory, IsNeededByARankAloneUnderSomeMpis) {
  EXPECT_EQ(needed_in_shared_memory("Open MPI v4.1.4", 1), 0);
  EXPECT_EQ(needed_in_shared_memory("MPICH Version 4.0.2", 1), 4.25 * mib);
}

TEST(SharedMemory, OfAContainersDefaultSizeIsAWarning) {
  std::vector<Facts> ranks = {healthy()};
  ranks[0].shared_memory = {.problem = "", .bytes = 64 * mib, .free = 64 * mib};
  EXPECT_EQ(severity(find_about_shared_memory(ranks), "shared-memory"), Severity::warning);
}

TEST(SharedMemory, ThatIsFullIsAWarning) {
  std::vector<Facts> ranks(2, healthy());
  ranks[0].shared_memory.free = 1 * mib;
  const Finding found = finding(find_about_shared_memory(ranks), "shared-memory");
  EXPECT_EQ(found.verdict.severity, Severity::warning);
  EXPECT_THAT(found.verdict.advice, HasSubstr("ls -l /dev/shm"));
}

TEST(SharedMemory, ThatCannotBeWrittenIsAnErrorOfThatHost) {
  std::vector<Facts> ranks = {healthy(1), healthy(2)};
  ranks[1].shared_memory.problem = "Permission denied";
  const Finding found = finding(find_about_shared_memory(ranks), "shared-memory");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.hosts, ElementsAre("node2"));
}

TEST_F(System, LimitsAreThoseOfThisProcess) {
  std::filesystem::create_directories(root() / "sys/class/infiniband/mlx5_0");
  write("proc/self/fd/0", "");
  write("proc/self/fd/1", "");
  const LimitFacts facts = read_limits(root());
  EXPECT_THAT(facts.verbs, ElementsAre("mlx5_0"));
  EXPECT_EQ(facts.files_now, 2);
}

TEST(LockedMemory, ThatIsLimitedMattersWhereANetworkNeedsIt) {
  std::vector<Facts> ranks = {healthy()};
  EXPECT_EQ(severity(find_about_limits(ranks), "locked-memory"), Severity::ok) << "unlimited";
  ranks[0].limits.locked_bytes = 64 * 1024;
  const Finding found = finding(find_about_limits(ranks), "locked-memory");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen, HasSubstr("64 KiB; mlx5_0 needs it"));
  EXPECT_THAT(found.verdict.advice, HasSubstr("ulimit -l unlimited"));
  ranks[0].limits.locked_bytes = 1024 * mib;
  EXPECT_EQ(severity(find_about_limits(ranks), "locked-memory"), Severity::warning);
  ranks[0].limits.verbs.clear();
  EXPECT_EQ(severity(find_about_limits(ranks), "locked-memory"), Severity::ok);
}

TEST(OpenFiles, FewerThanTheRanksNeedAreAnError) {
  std::vector<Facts> ranks(1000, healthy());
  const Finding found = finding(find_about_limits(ranks), "open-files");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen, HasSubstr("of 1000 ranks each may need 2030"));
  ranks.resize(400, healthy());
  EXPECT_EQ(severity(find_about_limits(ranks), "open-files"), Severity::ok);
}

TEST_F(System, ClockIsReadAndItsSourceTold) {
  write("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
  const ClockFacts facts = read_clock(root());
  EXPECT_EQ(facts.source, "hpet");
  EXPECT_GT(facts.read_cost, 1e-9);
  EXPECT_LT(facts.read_cost, 1e-4);
}

TEST(ClockSource, ThatIsSlowIsAWarning) {
  std::vector<Facts> ranks = {healthy()};
  EXPECT_EQ(severity(find_about_clocks(ranks), "clock-source"), Severity::ok);
  ranks[0].clock.read_cost = 1.2e-6;
  const Finding slow = finding(find_about_clocks(ranks), "clock-source");
  EXPECT_EQ(slow.verdict.severity, Severity::warning);
  EXPECT_THAT(slow.verdict.seen, HasSubstr("a read takes 1200 ns"));
  ranks[0].clock = {.source = "acpi_pm", .read_cost = 50e-9, .wall_clock = 0};
  EXPECT_EQ(severity(find_about_clocks(ranks), "clock-source"), Severity::warning);
  ranks[0].clock.source = "";
  EXPECT_EQ(severity(find_about_clocks(ranks), "clock-source"), Severity::unknown);
}

TEST(WallClocks, MoreThanAMinuteApartAreAWarning) {
  std::vector<Facts> ranks = {healthy(1), healthy(2)};
  ranks[0].clock.wall_clock += 59;
  EXPECT_EQ(severity(find_about_clocks(ranks), "wall-clocks"), Severity::ok);
  ranks[0].clock.wall_clock += 30;
  const Finding found = finding(find_about_clocks(ranks), "wall-clocks");
  EXPECT_EQ(found.verdict.severity, Severity::warning);
  EXPECT_THAT(found.verdict.seen, HasSubstr("node1 is 89 s ahead of that of node2"));
}

}  // namespace
}  // namespace syncbn::app::doctor
