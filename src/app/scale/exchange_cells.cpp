// SPDX-License-Identifier: Apache-2.0
//
// An exchange alone: the all-reduce of a message, by the library and by MPI_Allreduce.
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "app/last_resort.hpp"
#include "app/scale/cells.hpp"

namespace syncbn::app::scale {
namespace {

/// Who says who sums.
enum class Who : std::uint8_t { builtin, mpi };

const char* name_of(Who who) {
  return who == Who::builtin ? "builtin" : "MPI_Allreduce";
}

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

Found measure(const Plan& plan, const StoppingRule& rule, const Group& group, std::size_t which,
              Who who, std::size_t length, Deadlines deadlines) {
  Found found;
  if (!group.member) {
    return found;
  }
  std::vector<double> message(length);  // zeros, whose sum stays what it is
  std::optional<LastResort> last_resort;
  std::function<void()> task = [&] { group.ranks->all_reduce(message); };
  if (who == Who::mpi) {
    last_resort.emplace(time_limit(plan, deadlines), late(length));
    task = [&] { group.mpi->all_reduce(message); };
  }
  const Measurements measured = measure_in_windows({&task, 1}, *group.ranks, *group.clock, rule);
  const Measurement& exchange = measured.tasks.front();
  const Arrivals& arrivals = exchange.arrivals;
  Json entry = {{"kind", "exchange"},
                {"enough", measured.enough},
                {"group", which},
                {"by", name_of(who)},
                {"doubles", length},
                {"time", describe(arrivals.after_last_arrival())},
                {"spread", describe(arrivals.spread())},
                {"late", exchange.late}};
  add_ranks(entry, arrivals, group.plan.members);
  found.entries.push_back(std::move(entry));
  found.samples = {{"arrival_ns", arrivals.arrival}, {"exit_ns", arrivals.exit}};
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
    for (const Who who : {Who::builtin, Who::mpi}) {
      if (who == Who::mpi && !group.mpi) {
        continue;
      }
      for (const std::size_t length : lengths(plan.budget)) {
        cells.push_back({Kind::exchange,
                         fmt::format("exchange-{}-{}-{}", which, name_of(who), length),
                         fmt::format("{} of {} doubles over {} ranks", name_of(who), length,
                                     group.plan.members.size()),
                         [=, &plan, &group](const StoppingRule& rule) {
                           return measure(plan, rule, group, which, who, length, deadlines);
                         }});
      }
    }
  }
  return cells;
}

}  // namespace syncbn::app::scale
