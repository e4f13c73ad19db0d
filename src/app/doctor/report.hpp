// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "app/doctor/finding.hpp"

namespace syncbn::app::doctor {

/// A Diagnosis is everything that the doctor finds out.
struct Diagnosis {
  int ranks = 1;
  int hosts = 1;
  std::string transport;
  std::vector<Finding> findings;
};

/// Returns whether no finding is an error.
bool passed(const Diagnosis& diagnosis);

/// Writes the report for the terminal: what is wrong, the worst first, then what is fine.
std::string report_text(const Diagnosis& diagnosis);

/// Writes the report for --json.
std::string report_json(const Diagnosis& diagnosis);

}  // namespace syncbn::app::doctor
