// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/bench/layer_times.hpp"
#include "app/device_facts.hpp"

namespace syncbn::app::bench {

struct BenchReport {
  BenchOptions options;
  int ranks = 1;
  int threads = 1;  ///< threads of each rank
  std::string transport;
  std::optional<DeviceFacts> device;  ///< the device that layers were on; none: the host
  std::vector<LayerTimes> layers;
};

/// Writes the report for the terminal.
std::string report_text(const BenchReport& report);

/// Writes the report for --json, in seconds and 10^9 bytes a second.
std::string report_json(const BenchReport& report);

/// Writes the report for --csv: a line per shape and phase, under a line of names.
std::string report_csv(const BenchReport& report);

}  // namespace syncbn::app::bench
