// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/check/findings.hpp"
#include "app/check/layer_run.hpp"
#include "app/device_facts.hpp"

namespace syncbn::app::check {

/// An Outcome is everything that a check finds out.
struct Outcome {
  Selection selection;
  std::uint64_t seed = 0;
  int ranks = 1;
  std::string transport;
  std::optional<DeviceFacts> device;  ///< the device that layers were on; none: the host
  double seconds = 0;
  std::vector<Case> cases;
  Findings findings;
  bool same_bits = true;         ///< whether results that all ranks have agree to the bit
  std::optional<Worst> control;  ///< local batch norm; none with a single rank
  // These are set with --exact and more than one rank.
  std::optional<BitComparison> exact_bits;
  std::optional<BitComparison> default_bits;  ///< the control: the default mode
};

bool passed(const Outcome& outcome);

/// Writes the report for the terminal.
std::string report_text(const Outcome& outcome);

/// Writes the report for --json.
std::string report_json(const Outcome& outcome);

}  // namespace syncbn::app::check
