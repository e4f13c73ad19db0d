// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/finding.hpp"

#include <algorithm>
#include <cstddef>

namespace syncbn::app::doctor {
namespace {

void add_once(std::vector<std::string>& hosts, const std::string& host) {
  if (std::ranges::find(hosts, host) == hosts.end()) {
    hosts.push_back(host);
  }
}

void add(Members& members, int rank, const Facts& facts) {
  members.ranks.push_back(rank);
  members.facts.push_back(facts);
  add_once(members.hosts, facts.host);
}

std::vector<Members> by(std::string Facts::*key, const std::vector<Facts>& all) {
  std::vector<Members> parts;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    auto part = std::ranges::find_if(parts, [&](const Members& members) {
      return members.facts.front().*key == all[rank].*key;
    });
    if (part == parts.end()) {
      part = parts.emplace(parts.end());
    }
    add(*part, static_cast<int>(rank), all[rank]);
  }
  return parts;
}

}  // namespace

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::ok:
      return "ok";
    case Severity::unknown:
      return "unknown";
    case Severity::warning:
      return "warning";
    case Severity::error:
      break;
  }
  return "error";
}

std::vector<Members> by_host(const std::vector<Facts>& all) {
  return by(&Facts::host, all);
}

std::vector<Members> by_machine(const std::vector<Facts>& all) {
  return by(&Facts::machine, all);
}

Members everybody(const std::vector<Facts>& all) {
  Members members;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    add(members, static_cast<int>(rank), all[rank]);
  }
  return members;
}

std::vector<Finding> judge(std::string_view name, const std::vector<Members>& parts,
                           const std::function<Verdict(const Members&)>& verdict_of) {
  std::vector<Finding> findings;
  for (const Members& part : parts) {
    const Verdict verdict = verdict_of(part);
    auto alike = std::ranges::find(findings, verdict, &Finding::verdict);
    if (alike == findings.end()) {
      alike = findings.insert(findings.end(), {std::string(name), verdict, {}, {}});
    }
    const std::vector<int>& ranks = verdict.ranks.empty() ? part.ranks : verdict.ranks;
    alike->ranks.insert(alike->ranks.end(), ranks.begin(), ranks.end());
    std::ranges::sort(alike->ranks);
    for (const std::string& host : part.hosts) {
      add_once(alike->hosts, host);
    }
  }
  return findings;
}

Severity worst(const std::vector<Finding>& findings) {
  Severity worst = Severity::ok;
  for (const Finding& finding : findings) {
    worst = std::max(worst, finding.verdict.severity);
  }
  return worst;
}

}  // namespace syncbn::app::doctor
