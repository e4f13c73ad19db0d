// SPDX-License-Identifier: Apache-2.0
#include "app/study/take_runs.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "app/idle_wait.hpp"
#include "app/part_progress.hpp"
#include "app/scale/distribution.hpp"
#include "app/study/ioffe_szegedy.hpp"
#include "trainer/agreement.hpp"
#include "trainer/stopwatch.hpp"
#include "trainer/trainer.hpp"

namespace syncbn::app::study {
namespace {

/// Ranks wait this long for one whose run takes longer, beyond the time of an exchange.
constexpr auto patience = std::chrono::hours(24);

double weight_of(std::span<const Run* const> runs) {
  return std::transform_reduce(runs.begin(), runs.end(), 0.0, std::plus<>(),
                               [](const Run* run) { return run->weight(); });
}

/// Taken is what came of a rank's run.
struct Taken {
  Json found;                            ///< for its file
  std::exception_ptr failure = nullptr;  ///< why there is nothing
};

/// Trains this rank's run of a round, if it has one, and waits for the other ranks.
Taken take(const Run* mine, const Communicator& world,
           const std::shared_ptr<const trainer::Split>& data, const Advance& advance) {
  Taken taken;
  try {
    if (mine != nullptr) {
      const trainer::Stopwatch watch;
      const Json results = train(*mine, data, advance);
      taken.found = {{"seconds", scale::rounded(watch.seconds())}, {"results", results}};
    }
  } catch (...) {  // the others are waiting; it is rethrown when their runs are kept
    taken.failure = std::current_exception();
  }
  wait_for_all(world, patience);
  return taken;
}

/// Collective. Keeps what the ranks found of their runs of a round, one a rank, which took
/// `seconds` together. Then throws on every rank if a run failed.
void keep(std::span<const Run* const> round, const Taken& mine, double seconds,
          const Communicator& world, RunDirectory& directory) {
  const std::vector<double> failed =
      world.all_gather(std::vector<double>{mine.failure ? 1.0 : 0.0});
  for (std::size_t rank = 0; rank < round.size(); ++rank) {
    if (failed[rank] == 0) {
      directory.keep(round[rank]->name, mine.found, static_cast<int>(rank),
                     seconds / static_cast<double>(round.size()));
    }
  }
  trainer::agree(world, [&] {
    if (mine.failure) {
      std::rethrow_exception(mine.failure);
    }
  });
}

}  // namespace

PartFiles run_files() {
  return {.command = "syncbn study", .part = "run", .is_part = [](const Json& run) {
            return run.contains("seconds") && run["seconds"].is_number() &&
                   run.contains("results") && run["results"].is_object() &&
                   run["results"].contains("series") && run["results"].contains("final") &&
                   run["results"].contains("diverged_at");
          }};
}

std::vector<const Run*> missing_runs(const std::vector<Run>& runs, const RunDirectory& directory) {
  std::vector<const Run*> missing;
  for (const Run& run : runs) {
    if (!directory.has(run.name)) {
      missing.push_back(&run);
    }
  }
  std::ranges::stable_sort(missing, std::ranges::greater(),
                           [](const Run* run) { return run->weight(); });
  return missing;
}

double expected_seconds(std::span<const Run* const> runs, const Plan& plan,
                        const Communicator& world,
                        const std::shared_ptr<const trainer::Split>& data) {
  constexpr int warm_up = 10, timed = 50;
  trainer::Trainer trainer(ioffe_szegedy(plan, trainer::Norm::sync, 1, warm_up + timed),
                           Communicator::self(), data);
  for (int i = 0; i < warm_up; ++i) {
    trainer.step();
  }
  const trainer::Stopwatch watch;
  for (int i = 0; i < timed; ++i) {
    trainer.step();
  }
  std::vector<double> seconds{watch.seconds() / timed};
  world.all_reduce(seconds);
  const double mean = seconds[0] / world.size();
  return mean * weight_of(runs) / world.size();
}

void take_runs(std::span<const Run* const> runs, const Communicator& world,
               const std::shared_ptr<const trainer::Split>& data, ProgressStyle style,
               RunDirectory& directory) {
  const auto ranks = static_cast<std::size_t>(world.size());
  PartProgress progress(world.rank(), "runs", runs.size(), weight_of(runs), style);
  double weight_done = 0;
  for (std::size_t done = 0; done < runs.size(); done += ranks) {
    const std::span<const Run* const> round =
        runs.subspan(done, std::min(ranks, runs.size() - done));
    const double weight = weight_of(round);
    const auto own = static_cast<std::size_t>(world.rank());
    const Run* mine = own < round.size() ? round[own] : nullptr;
    const Advance advance = [&](double part) {
      progress.show(done, weight_done + part * weight, round.front()->name);
    };
    advance(0);
    const trainer::Stopwatch watch;
    const Taken taken = take(mine, world, data, advance);
    keep(round, taken, watch.seconds(), world, directory);
    weight_done += weight;
  }
}

}  // namespace syncbn::app::study
