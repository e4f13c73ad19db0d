// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/processors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/doctor/planted.hpp"

namespace syncbn::app::doctor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ProcessorFactsOf : public PlantedSystem {};

TEST(ProcessorList, IsReadAsTheKernelWritesIt) {
  EXPECT_THAT(processors_in("0-2,8"), ElementsAre(0, 1, 2, 8));
  EXPECT_THAT(processors_in(""), IsEmpty());
  EXPECT_THAT(processors_in("rubbish,4"), ElementsAre(4));
}

TEST_F(ProcessorFactsOf, ASystemAreReadFromItsFiles) {
  write("sys/devices/system/cpu/online", "0-15\n");
  write("proc/self/status", "Name:\tsyncbn\nCpus_allowed_list:\t0,8\n");
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
  write("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "acpi-cpufreq\n");
  const ProcessorFacts facts = read_processors(root(), 3);
  EXPECT_EQ(facts.online, "0-15");
  EXPECT_EQ(facts.allowed, "0,8");
  EXPECT_EQ(facts.quota, 1.5);
  EXPECT_EQ(facts.threads, 3);
  EXPECT_EQ(facts.governor, "powersave");
  EXPECT_EQ(facts.frequency_driver, "acpi-cpufreq");
}

TEST_F(ProcessorFactsOf, ASystemThatTellsNothingMakeNoFinding) {
  const std::vector<Facts> ranks = [&] {
    Facts facts = healthy();
    facts.processors = read_processors(root(), 1);
    return std::vector{facts, facts};
  }();
  const std::vector<Finding> findings = find_about_processors(ranks);
  for (const char* name : {"binding", "ranks-per-core", "threads-per-core", "frequency-governor"}) {
    EXPECT_EQ(severity(findings, name), Severity::unknown) << name;
  }
  EXPECT_EQ(severity(findings, "cpu-quota"), Severity::ok);
}

TEST(Processors, OfHealthyRanksAreFine) {
  const std::vector<Facts> ranks(4, healthy());
  for (const Finding& one : find_about_processors(ranks)) {
    EXPECT_EQ(one.verdict.severity, Severity::ok) << one.name << ": " << one.verdict.seen;
  }
}

TEST(Processors, AreTooFewForMoreRanks) {
  std::vector<Facts> ranks(9, healthy());
  const Finding found = finding(find_about_processors(ranks), "ranks-per-core");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen, HasSubstr("9 ranks on 8 processors"));
  ranks.pop_back();
  EXPECT_EQ(severity(find_about_processors(ranks), "ranks-per-core"), Severity::ok);
}

TEST(Processors, OfContainersOnOneMachineAreCountedOnce) {
  std::vector<Facts> ranks(5, healthy(1));
  ranks.resize(10, healthy(2));
  EXPECT_EQ(severity(find_about_processors(ranks), "ranks-per-core"), Severity::ok);
  for (Facts& facts : ranks) {
    facts.machine = "one";
  }
  const Finding found = finding(find_about_processors(ranks), "ranks-per-core");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.hosts, ElementsAre("node1", "node2"));
}

TEST(Processors, AreTooFewForMoreThreads) {
  std::vector<Facts> ranks(4, healthy());
  for (Facts& facts : ranks) {
    facts.processors.threads = 8;
  }
  const Finding found = finding(find_about_processors(ranks), "threads-per-core");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen, HasSubstr("32 threads of 4 ranks on 8 processors"));
  EXPECT_THAT(found.verdict.advice, HasSubstr("OMP_NUM_THREADS=2"));
}

TEST(Binding, OfRanksToTheSameProcessorIsAnError) {
  std::vector<Facts> ranks(3, healthy());
  for (Facts& facts : ranks) {
    facts.processors.threads = 1;
  }
  ranks[0].processors.allowed = ranks[2].processors.allowed = "4";
  const Finding found = finding(find_about_processors(ranks), "binding");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.ranks, ElementsAre(0, 2));
  EXPECT_THAT(found.verdict.advice, HasSubstr("--bind-to none"));
  EXPECT_EQ(severity(find_about_processors(ranks), "ranks-per-core"), Severity::ok)
      << "it is the binding that is wrong";
  ranks[2].processors.allowed = "5";
  EXPECT_EQ(severity(find_about_processors(ranks), "binding"), Severity::ok);
}

TEST(Binding, OfARankToFewerProcessorsThanItHasThreadsIsAnError) {
  std::vector<Facts> ranks(2, healthy());
  ranks[0].processors.allowed = "0,1";
  ranks[1].processors.allowed = "2";
  const Finding found = finding(find_about_processors(ranks), "binding");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.ranks, ElementsAre(1));
  EXPECT_THAT(found.verdict.seen, HasSubstr("a rank of 2 threads is bound to 1 processor"));
  ranks[1].processors.allowed = "2-3";
  EXPECT_EQ(severity(find_about_processors(ranks), "binding"), Severity::ok);
}

TEST(CpuQuota, BelowTheThreadsIsAnErrorOfThatHost) {
  std::vector<Facts> ranks = {healthy(1), healthy(1), healthy(2)};
  ranks[0].processors.quota = ranks[1].processors.quota = 3.5;
  const Finding found = finding(find_about_processors(ranks), "cpu-quota");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen, HasSubstr("4 threads share a quota of 3.5 processors"));
  EXPECT_THAT(found.hosts, ElementsAre("node1"));
  ranks[0].processors.quota = ranks[1].processors.quota = 4;
  EXPECT_EQ(severity(find_about_processors(ranks), "cpu-quota"), Severity::ok);
}

TEST(FrequencyGovernor, PowersaveIsAWarningWhereTheGovernorChooses) {
  std::vector<Facts> ranks = {healthy()};
  ranks[0].processors.governor = "powersave";
  EXPECT_EQ(severity(find_about_processors(ranks), "frequency-governor"), Severity::warning);
  ranks[0].processors.frequency_driver = "intel_pstate";
  EXPECT_EQ(severity(find_about_processors(ranks), "frequency-governor"), Severity::ok);
}

}  // namespace
}  // namespace syncbn::app::doctor
