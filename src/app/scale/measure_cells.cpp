// SPDX-License-Identifier: Apache-2.0
#include "app/scale/measure_cells.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>

#include "app/idle_wait.hpp"
#include "app/part_progress.hpp"
#include "trainer/random.hpp"
#include "trainer/stopwatch.hpp"

namespace syncbn::app::scale {
namespace {

/// Collective. Returns how long each of the missing cells may take: all that it needs, or less if
/// the budget's time would not suffice for all. `spent` counts on rank 0. [s]
double share_of_time(const Communicator& world, const Plan& plan, double spent,
                     std::span<const Cell* const> missing) {
  double needed = 0;
  for (const Cell* cell : missing) {
    needed += most_seconds(plan, cell->kind);
  }
  const double left = std::max(0.0, plan.seconds - spent);
  std::vector<double> share{world.rank() == 0 ? std::min(1.0, left / needed) : 0.0};
  world.all_reduce(share);
  return share[0];
}

/// Returns how long ranks that take no part in a cell wait for those that do: the deadline comes on
/// top of what a cell may take, twice its time, and of what precedes it, such as filling tensors.
std::chrono::milliseconds patience(const Deadlines& deadlines, const Plan& plan, Kind kind) {
  constexpr auto preparation = std::chrono::seconds(30);
  return deadlines.fail + preparation +
         std::chrono::milliseconds(std::lround(3e3 * most_seconds(plan, kind)));
}

/// Collective. Keeps what a cell has found on rank `found.at`, in `seconds`.
void keep(const Cell& cell, const Found& found, double seconds, RunDirectory& directory) {
  directory.keep(
      cell.name,
      {{"seconds", rounded(seconds)}, {"entries", found.entries}, {"samples", found.samples}},
      found.at, seconds);
}

}  // namespace

std::vector<const Cell*> missing_cells(const std::vector<Cell>& cells,
                                       const RunDirectory& directory, std::uint64_t seed) {
  std::vector<const Cell*> order;
  for (const Cell& cell : cells) {
    order.push_back(&cell);
  }
  trainer::shuffle(std::span(order), trainer::Random({seed}));
  std::erase_if(order, [&](const Cell* cell) { return directory.has(cell->name); });
  return order;
}

void measure_cells(std::span<const Cell* const> cells, const Communicator& world, const Plan& plan,
                   const Deadlines& deadlines, ProgressStyle style, RunDirectory& directory) {
  const trainer::Stopwatch run;
  PartProgress progress(world.rank(), "cells", cells.size(), static_cast<double>(cells.size()),
                        style);
  for (std::size_t done = 0; done < cells.size(); ++done) {
    const Cell& cell = *cells[done];
    progress.show(done, static_cast<double>(done), cell.text);
    const trainer::Stopwatch watch;
    const double share = share_of_time(world, plan, run.seconds(), cells.subspan(done));
    const Found found = cell.measure(
        stopping_rule(plan, cell.kind, share * most_seconds(plan, cell.kind), world.size()));
    wait_for_all(world, patience(deadlines, plan, cell.kind));
    keep(cell, found, watch.seconds(), directory);
  }
}

}  // namespace syncbn::app::scale
