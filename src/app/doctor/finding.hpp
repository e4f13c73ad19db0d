// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "app/doctor/facts.hpp"

namespace syncbn::app::doctor {

/// A Severity says what follows from a finding. Ascending.
enum class Severity : std::uint8_t {
  ok,
  unknown,  ///< cannot be told here
  warning,
  error,  ///< the job fails, or is slower by a factor
};

std::string_view to_string(Severity severity);

/// A Verdict is what is thought of some ranks.
struct Verdict {
  Severity severity = Severity::ok;
  std::string seen;    ///< with the numbers
  std::string advice;  ///< what to do; "" where there is nothing to do
  /// those of the ranks whom it concerns; empty: all
  std::vector<int> ranks{};

  bool operator==(const Verdict&) const = default;
};

/// A Finding is a verdict with its name and those whom it concerns.
struct Finding {
  std::string name;  ///< in kebab case: "ranks-per-core"
  Verdict verdict;
  std::vector<int> ranks;
  std::vector<std::string> hosts;
};

/// Ranks that have something in common: a host, or a machine.
struct Members {
  std::vector<int> ranks;          ///< ascending
  std::vector<std::string> hosts;  ///< on which they are
  std::vector<Facts> facts;        ///< in the ranks' order
};

/// Return the ranks of each host, and of each machine: several hosts may be containers of one.
/// `all` are the facts of all ranks, in rank order. The first ranks' come first.
std::vector<Members> by_host(const std::vector<Facts>& all);
std::vector<Members> by_machine(const std::vector<Facts>& all);
/// Returns all ranks.
Members everybody(const std::vector<Facts>& all);

/// Returns the findings of that name: one for each verdict, over all parts that have it.
std::vector<Finding> judge(std::string_view name, const std::vector<Members>& parts,
                           const std::function<Verdict(const Members&)>& verdict_of);

/// Returns the worst severity of all findings.
Severity worst(const std::vector<Finding>& findings);

}  // namespace syncbn::app::doctor
