// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/launch.hpp"

#include <fmt/format.h>

namespace syncbn::app::doctor {
namespace {

Verdict verdict(const Members& members) {
  const LaunchFacts& facts = members.facts.front().launch;
  if (!facts.problem.empty()) {
    return {Severity::error, facts.problem, facts.advice};
  }
  if (members.ranks.size() == 1) {
    return {Severity::ok, "a single process", ""};
  }
  return {Severity::ok, fmt::format("{} ranks know of each other", members.ranks.size()), ""};
}

}  // namespace

std::vector<Finding> find_about_launch(const std::vector<Facts>& all) {
  return judge("launcher", {everybody(all)}, verdict);
}

}  // namespace syncbn::app::doctor
