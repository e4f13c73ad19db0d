// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/doctor/launch.hpp"
#include "app/doctor/planted.hpp"

namespace syncbn::app::doctor {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

TEST(Facts, GoToRank0AndBackUnchanged) {
  Facts facts = healthy();
  facts.processors.quota = 1.5;
  facts.traits.environment["LD_PRELOAD"] = "\"a\n\"";
  const Facts back = from_text(to_text(facts));
  EXPECT_EQ(to_text(back), to_text(facts));
  EXPECT_EQ(back.processors.quota, 1.5);
  EXPECT_EQ(back.limits.locked_bytes, std::nullopt);
  EXPECT_EQ(back.network.interfaces.at(0).prefix, 24);
  EXPECT_EQ(back.traits.environment.at("LD_PRELOAD"), "\"a\n\"");
}

TEST(Facts, WithBytesThatAreNoTextArrive) {
  Facts facts = healthy();
  facts.traits.environment["LD_PRELOAD"] = "\xff";
  EXPECT_EQ(from_text(to_text(facts)).host, "node1");
}

TEST(Launch, OfStrangersIsAnError) {
  std::vector<Facts> ranks = {healthy()};
  EXPECT_EQ(severity(find_about_launch(ranks), "launcher"), Severity::ok);
  ranks[0].launch = {"started as 2 processes", "Start them otherwise."};
  const Finding found = finding(find_about_launch(ranks), "launcher");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_EQ(found.verdict.advice, "Start them otherwise.");
}

TEST(Findings, OfHostsThatAreAlikeAreOne) {
  const std::vector<Facts> ranks = {healthy(1), healthy(2), healthy(3), healthy(1)};
  const auto findings = judge("x", by_host(ranks), [](const Members& members) {
    return members.hosts.front() == "node2" ? Verdict{Severity::error, "bad", "mend"}
                                            : Verdict{Severity::ok, "good", ""};
  });
  ASSERT_THAT(findings, SizeIs(2));
  EXPECT_THAT(findings[0].ranks, ElementsAre(0, 2, 3));
  EXPECT_THAT(findings[0].hosts, ElementsAre("node1", "node3"));
  EXPECT_THAT(findings[1].ranks, ElementsAre(1));
  EXPECT_EQ(worst(findings), Severity::error);
}

Diagnosis planted() {
  return {.ranks = 2,
          .hosts = 1,
          .transport = "threads",
          .findings = {{"a", {Severity::ok, "is fine", ""}, {0, 1}, {"node1"}},
                       {"b", {Severity::warning, "is odd", "Mend b."}, {1}, {"node1"}},
                       {"c", {Severity::error, "is bad", "Mend c."}, {0, 1}, {"node1"}},
                       {"c", {Severity::ok, "is fine", ""}, {}, {"node2"}},
                       {"d", {Severity::unknown, "is hidden", ""}, {0, 1}, {"node1"}}}};
}

TEST(Report, HasProblemsFirstAndOneLineOfWhatIsFine) {
  const std::string text = report_text(planted());
  EXPECT_EQ(text,
            "syncbn doctor: 2 ranks on 1 host, threads: 1 error, 1 warning\n\n"
            "error    c: is bad (ranks 0-1 on node1)\n"
            "         Mend c.\n"
            "warning  b: is odd (rank 1 on node1)\n"
            "         Mend b.\n"
            "fine     a\n"
            "unknown  d\n");
}

TEST(Report, FailsOnErrorsAlone) {
  Diagnosis diagnosis = planted();
  EXPECT_FALSE(passed(diagnosis));
  diagnosis.findings.erase(diagnosis.findings.begin() + 2);
  EXPECT_TRUE(passed(diagnosis));
}

TEST(Report, InJsonHasTheSame) {
  const auto report = nlohmann::json::parse(report_json(planted()));
  EXPECT_EQ(report["format"], "syncbn doctor 1");
  EXPECT_EQ(report["pass"], false);
  ASSERT_THAT(report["findings"], SizeIs(5));
  EXPECT_EQ(report["findings"][2]["name"], "c");
  EXPECT_EQ(report["findings"][2]["severity"], "error");
  EXPECT_EQ(report["findings"][2]["seen"], "is bad");
  EXPECT_EQ(report["findings"][2]["advice"], "Mend c.");
  EXPECT_EQ(report["findings"][1]["ranks"], nlohmann::json({1}));
}

}  // namespace
}  // namespace syncbn::app::doctor
