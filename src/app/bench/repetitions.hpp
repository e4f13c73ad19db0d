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
  std::function<double()> run;  ///< does it, and returns how long it took [s]
};

/// Collective. Every repetition runs each task once, beginning with another one each time, all
/// ranks together; its time is that of the slowest rank. One round of warming up.
std::map<Phase, Summary> repeat(const std::vector<Task>& tasks, const BenchOptions& options,
                                const Communicator& world);

}  // namespace syncbn::app::bench
