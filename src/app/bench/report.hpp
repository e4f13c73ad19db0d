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
  int threads = 1;  ///< of each rank
  std::string transport;
  std::optional<DeviceFacts> device;  ///< that layers were on, if not on the host
  std::vector<LayerTimes> layers;
};

/// For the terminal.
std::string report_text(const BenchReport& report);

/// For --json. Seconds and 10^9 bytes a second.
std::string report_json(const BenchReport& report);

/// For --csv: a line per shape and phase, under a line of names.
std::string report_csv(const BenchReport& report);

}  // namespace syncbn::app::bench
