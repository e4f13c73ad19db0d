// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "syncbn/communicator.hpp"

#include "app/bench/layer_times.hpp"

namespace syncbn::app::bench {

struct Task {
  Phase phase;
  std::function<double()> run;  ///< runs the phase, and returns how long it took [s]
};

/// Collective. Runs each task once in every repetition, on all ranks together, beginning with
/// another task each time; a task's time is that of the slowest rank. One repetition before, to
/// warm up, does not count.
std::map<Phase, Summary> repeat(const std::vector<Task>& tasks, const BenchOptions& options,
                                const Communicator& world);

}  // namespace syncbn::app::bench
