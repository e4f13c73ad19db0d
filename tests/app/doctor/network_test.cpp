// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/network.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/doctor/planted.hpp"

namespace syncbn::app::doctor {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const Interface docker = {"docker0", "172.17.0.1", 16};

std::vector<Facts> two_hosts() {
  std::vector<Facts> ranks = {healthy(1), healthy(2)};
  for (Facts& facts : ranks) {
    facts.limits.verbs.clear();
  }
  return ranks;
}

TEST(Interfaces, HaveANetwork) {
  EXPECT_EQ(network_of({"eth0", "10.77.3.9", 24}), "10.77.3.0/24");
  EXPECT_EQ(network_of({"eth0", "10.77.3.9", 32}), "10.77.3.9/32");
  EXPECT_EQ(network_of({"eth0", "10.77.3.9", 0}), "0.0.0.0/0");
}

TEST(Interfaces, AreReadWithWhatOpenMpiIsTold) {
  const NetworkFacts facts = read_network([](const char* name) -> const char* {
    return std::string(name) == "OMPI_MCA_btl_tcp_if_include" ? "eth0" : nullptr;
  });
  EXPECT_EQ(facts.chosen, "btl_tcp_if_include=eth0");
  for (const Interface& interface : facts.interfaces) {
    EXPECT_THAT(interface.address, Not(testing::StartsWith("127.")));
    EXPECT_LE(interface.prefix, 32);
  }
}

TEST(Interfaces, OfHealthyHostsAreFine) {
  for (const Finding& one : find_about_interfaces(two_hosts())) {
    EXPECT_EQ(one.verdict.severity, Severity::ok) << one.name << ": " << one.verdict.seen;
  }
  EXPECT_EQ(severity(find_about_interfaces({healthy(), healthy()}), "tcp-interfaces"),
            Severity::ok);
}

TEST(Interfaces, WithTheSameAddressOnTwoHostsAreAnErrorThatNamesTheRightNetwork) {
  std::vector<Facts> ranks = two_hosts();
  for (Facts& facts : ranks) {
    facts.network.interfaces.insert(facts.network.interfaces.begin(), docker);
  }
  const Finding found = finding(find_about_interfaces(ranks), "tcp-interfaces");
  EXPECT_EQ(found.verdict.severity, Severity::error);
  EXPECT_THAT(found.verdict.seen, HasSubstr("172.17.0.1 (node1, node2)"));
  EXPECT_THAT(found.verdict.advice, HasSubstr("--mca btl_tcp_if_include 10.0.0.0/24 "));
  for (Facts& facts : ranks) {
    facts.network.chosen = "btl_tcp_if_include=10.0.0.0/24";
  }
  EXPECT_EQ(severity(find_about_interfaces(ranks), "tcp-interfaces"), Severity::ok);
}

TEST(Interfaces, WithTheSameAddressAreAWarningWhereAnotherNetworkIsThere) {
  std::vector<Facts> ranks = {healthy(1), healthy(2)};
  for (Facts& facts : ranks) {
    facts.network.interfaces.push_back(docker);
  }
  EXPECT_EQ(severity(find_about_interfaces(ranks), "tcp-interfaces"), Severity::warning);
}

TEST(Interfaces, OfTwoNamesForOneNetworkStackAreNoDuplicates) {
  std::vector<Facts> ranks = two_hosts();
  ranks[1].network = ranks[0].network;
  EXPECT_EQ(severity(find_about_interfaces(ranks), "tcp-interfaces"), Severity::ok);
}

TEST(Interfaces, WithoutACommonNetworkAreAWarning) {
  std::vector<Facts> ranks = two_hosts();
  ranks[1].network.interfaces[0].address = "10.0.7.2";
  const Finding found = finding(find_about_interfaces(ranks), "common-network");
  EXPECT_EQ(found.verdict.severity, Severity::warning);
  EXPECT_THAT(found.verdict.seen, HasSubstr("node2: eth0 10.0.7.2/24"));
  for (Facts& facts : ranks) {
    facts.network.interfaces.push_back(docker);  // which hosts do not meet on
  }
  EXPECT_EQ(severity(find_about_interfaces(ranks), "common-network"), Severity::warning);
}

TEST(Interfaces, AreToldByARankThatNobodyAnswers) {
  EXPECT_THAT(advise_alone({.interfaces = {docker, {"eth1", "10.1.0.3", 16}}, .chosen = ""},
                           "Open MPI v4.1.4"),
              AllOf(HasSubstr("docker0 172.17.0.1/16, eth1 10.1.0.3/16"),
                    HasSubstr("--mca btl_tcp_if_include 10.1.0.0/16 ")));
}

TEST(NetworkSpeed, BelowAGigabitIsAWarningOfThatPair) {
  const std::vector<Facts> ranks = {healthy(1), healthy(1), healthy(2), healthy(3)};
  EXPECT_EQ(severity(find_about_speed(ranks, {{0, 2, 50e-6, 1e9}}), "network-speed"), Severity::ok);
  const Finding found =
      finding(find_about_speed(ranks, {{0, 2, 50e-6, 1e9}, {2, 3, 400e-6, 12e6}}), "network-speed");
  EXPECT_EQ(found.verdict.severity, Severity::warning);
  EXPECT_THAT(found.ranks, ElementsAre(2, 3));
  EXPECT_THAT(found.verdict.seen, HasSubstr("from node2 to node3 and back in 400 us, 12 MB/s"));
}

TEST(NetworkSpeed, ThatWasNotMeasuredIsUnknownBetweenHosts) {
  EXPECT_EQ(severity(find_about_speed(two_hosts(), {}), "network-speed"), Severity::unknown);
  EXPECT_EQ(severity(find_about_speed({healthy()}, {}), "network-speed"), Severity::ok);
}

}  // namespace
}  // namespace syncbn::app::doctor
