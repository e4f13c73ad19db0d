// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "syncbn/batch_norm.hpp"
#include "syncbn/communicator.hpp"
#include "syncbn/phases.hpp"

#include "app/bench/layer_times.hpp"
#include "app/bench/onednn_batch_norm.hpp"
#include "app/bench/place.hpp"
#include "app/bench/repetitions.hpp"

namespace syncbn::app::bench {

/// A LayerBench holds a layer and its phases at a place, ready to run.
class LayerBench {
 public:
  /// Collective over the place's group.
  LayerBench(const LayerShape& layer, const BenchOptions& options, Place& place);
  LayerBench(const LayerBench&) = delete;
  LayerBench& operator=(const LayerBench&) = delete;

  const std::vector<Task>& tasks() const { return tasks_; }
  const std::string& rival_text() const { return rival_text_; }

 private:
  void add(Phase phase, Body body);
  void add_phases();
  void add_layer(Phase forward, Phase backward, BatchNorm& norm, ForwardRecord& record);
  void add_onednn();

  Place& place_;
  std::span<double> pivot_, sums_, mean_, var_, invstd_, count_;
  Scratch scratch_;
  PhaseOptions phase_options_;
  BatchNorm norm_;
  BatchNorm local_norm_;
  BatchNorm exact_norm_;
  ForwardRecord record_, local_record_, exact_record_;
  std::unique_ptr<OneDnnBatchNorm> onednn_;
  std::string rival_text_;
  std::vector<Task> tasks_;
};

/// Collective. Times one layer at a place, by `repeat`. Rival::onednn can only be on the host.
LayerTimes time_layer(const LayerShape& layer, const BenchOptions& options,
                      const Communicator& world, Place& place);

}  // namespace syncbn::app::bench
