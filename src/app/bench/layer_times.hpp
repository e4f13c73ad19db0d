// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "syncbn/dtype.hpp"

#include "app/bench/phases.hpp"
#include "app/bench/samples.hpp"
#include "app/bench/shapes.hpp"

namespace syncbn::app::bench {

constexpr double bench_eps = 1e-5;  ///< eps of every layer

struct BenchOptions {
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  std::vector<Rival> rivals;
  int repetitions = 10;      ///< fewest repetitions
  double min_seconds = 0.3;  ///< shortest time per shape [s]
  int cache_sharers = 1;     ///< ranks that share a last cache, which tensors are not to fit in
};

struct LayerTimes {
  LayerShape layer;
  std::map<Phase, Summary> phases;
  std::string rival_text;  ///< what oneDNN chose, or why it is missing

  /// Returns how much the phase moves through memory. [10^9 B/s]
  double bandwidth(Phase phase, DType dtype) const;
  /// Returns the bandwidth of the fastest copy that was timed.
  double copy_bandwidth(DType dtype) const;
  /// Returns the bandwidth that a phase of reads only can reach: that of reading, or on a device
  /// that of copying.
  double read_bandwidth(DType dtype) const;
};

}  // namespace syncbn::app::bench
