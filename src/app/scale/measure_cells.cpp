// SPDX-License-Identifier: Apache-2.0
#include "app/scale/measure_cells.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <thread>

#include "app/scale/scale_progress.hpp"
#include "comm/group/access.hpp"
#include "comm/group/descriptor.hpp"
#include "comm/group/group.hpp"
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

/// Collective. Waits for all ranks without taking a processor from those that measure, for as long
/// as `patience`, and then as an exchange waits.
void wait_for_all(const Communicator& world, std::chrono::milliseconds patience) {
  constexpr auto longest_nap = std::chrono::microseconds(20000);
  auto nap = std::chrono::microseconds(200);
  comm::Group& group = comm::Access::group(world);
  const comm::Descriptor what{.count = 1};
  std::vector<double> word{0.0};
  PendingSum sum = group.start(what, word);
  const trainer::Stopwatch watch;
  const double limit = std::chrono::duration<double>(patience).count();
  while (!group.arrived(what, sum) && watch.seconds() < limit) {
    std::this_thread::sleep_for(nap);
    nap = std::min(2 * nap, longest_nap);
  }
  group.finish(what, sum);
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
  ScaleProgress progress(world.rank(), cells.size(), style);
  for (std::size_t done = 0; done < cells.size(); ++done) {
    const Cell& cell = *cells[done];
    progress.begin(done, cell.text);
    const trainer::Stopwatch watch;
    const double share = share_of_time(world, plan, run.seconds(), cells.subspan(done));
    const Found found = cell.measure(
        stopping_rule(plan, cell.kind, share * most_seconds(plan, cell.kind), world.size()));
    wait_for_all(world, patience(deadlines, plan, cell.kind));
    directory.keep(cell, found, watch.seconds());
  }
}

}  // namespace syncbn::app::scale
