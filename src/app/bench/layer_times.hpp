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

constexpr double bench_eps = 1e-5;  ///< of every layer

struct BenchOptions {
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  std::vector<Rival> rivals;
  int repetitions = 10;      ///< at least
  double min_seconds = 0.3;  ///< per shape, at least
};

struct LayerTimes {
  LayerShape layer;
  std::map<Phase, Summary> phases;
  std::string rival_text;  ///< what oneDNN chose, or why it is missing

  /// GB/s (10^9 B) that the phase moves through memory.
  double bandwidth(Phase phase, DType dtype) const;
  /// That of the faster copy there is.
  double copy_bandwidth(DType dtype) const;
  /// That which a phase of reads only can reach: reading's, or copying's on a device.
  double read_bandwidth(DType dtype) const;
};

}  // namespace syncbn::app::bench
