// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/dtype.hpp"

#include "app/bench/samples.hpp"
#include "app/bench/shapes.hpp"

namespace syncbn::app::bench {

/// What is timed, each by itself.
enum class Phase : std::uint8_t {
  copy,            ///< x copied to y by all threads, by the C library
  streaming_copy,  ///< the same with stores past the cache
  sums,            ///< forward_sums
  exchange,        ///< an all-reduce of a forward's message
  normalize,       ///< normalize
  forward,         ///< BatchNorm::forward over the ranks
  backward_sums,   ///< backward_sums
  input_gradient,  ///< input_gradient
  backward,        ///< BatchNorm::backward over the ranks
  local_forward,   ///< the same layer over this rank alone
  local_backward,
  exact_forward,  ///< the same layer over the ranks with Reproducibility::exact
  exact_backward,
  onednn_forward,  ///< oneDNN's, over this rank alone
  onednn_backward,
};

std::string_view to_string(Phase phase);

/// How often the phase reads and writes a tensor of x's size; 0 for the exchange.
int passes(Phase phase);

/// What the layer is compared with.
enum class Rival : std::uint8_t { onednn, local, exact };

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
  /// That of the faster copy.
  double copy_bandwidth(DType dtype) const;
};

/// Collective. Times one layer. Every repetition runs each phase once, beginning with another one
/// each time, all ranks together; its time is that of the slowest rank. One round of warming up.
LayerTimes time_layer(const LayerShape& layer, const BenchOptions& options,
                      const Communicator& world);

}  // namespace syncbn::app::bench
