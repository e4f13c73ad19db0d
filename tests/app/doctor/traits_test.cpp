// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/traits.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/doctor/planted.hpp"

namespace syncbn::app::doctor {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

class TraitFactsOf : public PlantedSystem {};

TraitFacts read(const std::filesystem::path& data) {
  return read_traits(
      [](const char* name) -> const char* {
        return std::string(name) == "OMP_NUM_THREADS" ? "3" : nullptr;
      },
      "Open MPI v4.1.4", data);
}

TEST_F(TraitFactsOf, AProgramAndItsDataAreDigests) {
  write("images", "abc");
  write("more/deeper", "");
  const TraitFacts facts = read(root());
  EXPECT_THAT(facts.data, ElementsAre(Pair("images", "3 bytes, CRC-32 352441c2")));
  EXPECT_THAT(facts.environment, ElementsAre(Pair("OMP_NUM_THREADS", "3")));
  EXPECT_THAT(facts.program, HasSubstr(" bytes, CRC-32 "));
  write("images", "abd");
  EXPECT_NE(read(root()).data.at("images"), facts.data.at("images"));
}

TEST_F(TraitFactsOf, ADirectoryThatIsNotThereSayWhy) {
  EXPECT_THAT(read(root() / "nowhere").data, ElementsAre(Pair(".", HasSubstr("No such file"))));
  EXPECT_TRUE(read({}).data.empty());
}

std::vector<Facts> two_hosts() {
  return {healthy(1), healthy(1), healthy(2)};
}

TEST(Common, ToAllRanksAreFine) {
  for (const Finding& one : find_about_traits(two_hosts())) {
    EXPECT_EQ(one.verdict.severity, Severity::ok) << one.name << ": " << one.verdict.seen;
  }
}

/// Changes the facts of the last rank, and returns the finding that follows.
template <class Change>
Finding found_after(std::string_view name, const Change& change) {
  std::vector<Facts> ranks = two_hosts();
  change(ranks.back().traits);
  return finding(find_about_traits(ranks), name);
}

TEST(Common, VersionsThatDifferAreAnErrorThatNamesTheHosts) {
  const Finding found =
      found_after("same-version", [](TraitFacts& facts) { facts.version = "0.2.0"; });
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen,
              AllOf(HasSubstr("0.1.0 (1 bytes, CRC-32 00000001) on node1 (ranks 0-1)"),
                    HasSubstr("on node2 (rank 2)")));
}

TEST(Common, BuildsOfOneVersionThatDifferAreAnError) {
  EXPECT_EQ(found_after("same-version",
                        [](TraitFacts& facts) { facts.program = "1 bytes, CRC-32 00000002"; })
                .verdict.severity,
            Severity::error);
}

TEST(Common, MpisThatDifferAreAnError) {
  EXPECT_EQ(found_after("same-mpi", [](TraitFacts& facts) { facts.mpi = "Open MPI v5.0.7"; })
                .verdict.severity,
            Severity::error);
}

TEST(Common, InstructionSetsThatDifferAreAWarning) {
  EXPECT_EQ(
      found_after("same-instruction-set", [](TraitFacts& facts) { facts.instruction_set = "AVX3"; })
          .verdict.severity,
      Severity::warning);
}

TEST(Common, KernelsThatDifferAreAWarning) {
  EXPECT_EQ(
      found_after("same-kernel", [](TraitFacts& facts) { facts.kernel_release = "Linux 5.10"; })
          .verdict.severity,
      Severity::warning);
}

TEST(Common, EnvironmentsThatDifferAreAWarningThatSaysHowToHandThemOn) {
  const Finding found =
      found_after("same-environment", [](TraitFacts& facts) { facts.environment.clear(); });
  EXPECT_EQ(found.verdict.severity, Severity::warning);
  EXPECT_THAT(found.verdict.seen,
              HasSubstr("OMP_NUM_THREADS: 2 on node1 (ranks 0-1); none on node2"));
  EXPECT_THAT(found.verdict.advice, HasSubstr("mpirun -x OMP_NUM_THREADS"));
}

TEST(Common, DataThatDifferAreAnErrorThatNamesTheFile) {
  const Finding found =
      found_after("same-data", [](TraitFacts& facts) { facts.data["train"] = "2 bytes"; });
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen, AllOf(HasSubstr("train: "), HasSubstr("2 bytes on node2")));
  EXPECT_EQ(found_after("same-data", [](TraitFacts& facts) { facts.data["new"] = "2 bytes"; })
                .verdict.severity,
            Severity::error)
      << "a file that one host alone has";
}

TEST(Common, DataThatNobodyCanReadAreAnError) {
  std::vector<Facts> ranks = two_hosts();
  for (Facts& facts : ranks) {
    facts.traits.data = {{".", "No such file"}};
  }
  EXPECT_EQ(severity(find_about_traits(ranks), "same-data"), Severity::error);
  for (Facts& facts : ranks) {
    facts.traits.data.clear();
  }
  EXPECT_EQ(severity(find_about_traits(ranks), "same-data"), Severity::unknown) << "not asked for";
}

}  // namespace
}  // namespace syncbn::app::doctor
