// SPDX-License-Identifier: Apache-2.0
//
// An exchange alone: the all-reduce of a message, by the library and by MPI_Allreduce in turn.
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "app/last_resort.hpp"
#include "app/scale/cells.hpp"

namespace syncbn::app::scale {
namespace {

/// Returns the lengths of messages, those of forwards of 8 to 2048 channels, and of 1 double.
std::vector<std::size_t> lengths(Budget budget) {
  if (budget == Budget::quick) {
    return {1, 130, 514, 1026, 4098};
  }
  return {1, 18, 66, 130, 258, 514, 1026, 2050, 4098, 16386};
}

/// Returns how long all repetitions may take: MPI's calls have no deadline of their own.
std::chrono::milliseconds time_limit(const Plan& plan, Deadlines deadlines) {
  return deadlines.fail + std::chrono::milliseconds(std::lround(2e3 * plan.cell_seconds));
}

std::string late(std::size_t length) {
  return fmt::format(
      "syncbn scale: MPI_Allreduce of {} doubles was not done in time (is a rank stuck?). Give "
      "--timeout more, if ranks take so long.\n",
      length);
}

/// Describes one of the two exchanges.
Json entry_of(const Measurement& exchange, bool enough, std::size_t which, const Group& group,
              const std::string& by, std::size_t length) {
  const Arrivals& arrivals = exchange.arrivals;
  Json entry = {{"kind", "exchange"},
                {"enough", enough},
                {"group", which},
                {"by", by},
                {"doubles", length},
                {"time", describe(arrivals.after_last_arrival())},
                {"spread", describe(arrivals.spread())},
                {"late", exchange.late}};
  add_ranks(entry, arrivals, group.plan.members);
  return entry;
}

Found measure(const Plan& plan, const StoppingRule& rule, const Group& group, std::size_t which,
              std::size_t length, Deadlines deadlines) {
  Found found;
  if (!group.member) {
    return found;
  }
  std::vector<double> message(length);  // zeros, whose sum stays what it is
  std::vector<std::function<void()>> tasks{[&] { group.ranks->all_reduce(message); }};
  std::vector<std::string> names{plan.exchange};
  std::optional<LastResort> last_resort;
  if (group.mpi) {
    last_resort.emplace(time_limit(plan, deadlines), late(length));
    tasks.emplace_back([&] { group.mpi->all_reduce(message); });
    names.emplace_back("MPI_Allreduce");
  }
  const Measurements measured = measure_in_windows(tasks, *group.ranks, *group.clock, rule);
  if (group.ranks->rank() != 0) {
    return found;
  }
  for (std::size_t task = 0; task < tasks.size(); ++task) {
    const Measurement& exchange = measured.tasks[task];
    found.entries.push_back(entry_of(exchange, measured.enough, which, group, names[task], length));
    found.samples[names[task]] = {{"arrival_ns", exchange.arrivals.arrival},
                                  {"exit_ns", exchange.arrivals.exit}};
  }
  return found;
}

}  // namespace

std::vector<Cell> exchange_cells(const Plan& plan, const std::vector<Group>& groups,
                                 Deadlines deadlines) {
  std::vector<Cell> cells;
  for (std::size_t which = 0; which < groups.size(); ++which) {
    const Group& group = groups[which];
    if (group.plan.members.size() == 1) {
      continue;  // nothing is exchanged
    }
    for (const std::size_t length : lengths(plan.budget)) {
      cells.push_back(
          {Kind::exchange, fmt::format("exchange-{}-{}", which, length),
           fmt::format("exchange of {} doubles over {} ranks", length, group.plan.members.size()),
           [=, &plan, &group](const StoppingRule& rule) {
             return measure(plan, rule, group, which, length, deadlines);
           }});
    }
  }
  return cells;
}

}  // namespace syncbn::app::scale
