// SPDX-License-Identifier: Apache-2.0
#include "app/bench/repetitions.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace syncbn::app::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int most_rounds = 10000;  // limit, unless more repetitions are asked for

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Collective. Returns rank 0's answer on all ranks, which leave the call together.
bool rank_0_says(const Communicator& world, bool answer) {
  std::vector<double> word = {world.rank() == 0 && answer ? 1.0 : 0.0};
  world.all_reduce(word);
  return word[0] > 0;
}

/// Collective. Returns, element by element, the largest of the ranks' samples.
std::vector<double> slowest(const Communicator& world, const std::vector<double>& mine) {
  const std::vector<double> all = world.all_gather(mine);
  std::vector<double> largest(mine.size(), 0.0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    largest[i % mine.size()] = std::max(largest[i % mine.size()], all[i]);
  }
  return largest;
}

}  // namespace

std::map<Phase, Summary> repeat(const std::vector<Task>& tasks, const BenchOptions& options,
                                const Communicator& world) {
  std::vector<std::vector<double>> samples(tasks.size());
  for (const Task& task : tasks) {
    task.run();
  }
  const Clock::time_point start = Clock::now();
  const auto wanted = [&](int round) {
    return round < options.repetitions ||
           (round < most_rounds && seconds_since(start) < options.min_seconds);
  };
  for (int round = 0; rank_0_says(world, wanted(round)); ++round) {
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const std::size_t t = (i + static_cast<std::size_t>(round)) % tasks.size();
      rank_0_says(world, true);
      samples[t].push_back(tasks[t].run());
    }
  }
  std::map<Phase, Summary> phases;
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    phases[tasks[t].phase] = summarize(slowest(world, samples[t]));
  }
  return phases;
}

}  // namespace syncbn::app::bench
