// SPDX-License-Identifier: Apache-2.0
//
// Whole training steps, those of `syncbn train` with its cnn: with a fixed batch over all ranks
// (strong scaling) and with a fixed batch on each rank (weak scaling).
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "app/option_values.hpp"
#include "app/scale/cells.hpp"
#include "app/scale/flights.hpp"
#include "trainer/stopwatch.hpp"
#include "trainer/trainer.hpp"

namespace syncbn::app::scale {
namespace {

using trainer::Norm;
using trainer::StepReport;

enum class Scaling : std::uint8_t { strong, weak };

const char* name_of(Scaling scaling) {
  return scaling == Scaling::strong ? "strong" : "weak";
}

trainer::TrainOptions train_options(const Plan& plan, Norm norm, std::int64_t batch) {
  trainer::TrainOptions options;
  options.data = plan.data;
  options.norm = norm;
  options.batch_size = batch;
  options.schedule = trainer::Schedule::constant;
  options.steps = std::int64_t{1} << 40;  // more than are taken
  options.seed = plan.seed;
  return options;
}

/// Collective. Returns for each step the time of the slowest rank. [s]
std::vector<double> slowest(const Communicator& ranks, const std::vector<StepReport>& steps) {
  std::vector<double> own;
  for (const StepReport& step : steps) {
    own.push_back(step.times.total);
  }
  const std::vector<double> all = ranks.all_gather(own);
  std::vector<double> times(own.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    double& time = times[i % own.size()];
    time = std::max(time, all[i]);
  }
  return times;
}

/// A Run is a training that is timed.
struct Run {
  Norm norm;
  trainer::Trainer trainer;
  std::vector<StepReport> reports = {};
  std::vector<double> times = {};  ///< of each step, on the slowest rank [s]
};

/// Collective. Takes steps of one run and of the other in turn, a few at a time, so that what slows
/// the machine down slows down both, until the rule ends it. Returns whether that was enough.
bool take_steps(std::vector<Run>& runs, const Communicator& ranks, const StoppingRule& rule) {
  constexpr int at_a_time = 3;
  for (Run& run : runs) {
    for (int i = 0; i < at_a_time; ++i) {
      run.trainer.step();  // the first ones allocate
    }
  }
  const trainer::Stopwatch watch;
  for (;;) {
    bool enough = true;
    for (Run& run : runs) {
      for (int i = 0; i < at_a_time; ++i) {
        run.reports.push_back(run.trainer.step());
      }
      run.times = slowest(ranks, run.reports);
      enough = enough && is_enough(run.times.size(), median(run.times), rule.fewest, rule.wanted);
    }
    std::vector<double> seconds{ranks.rank() == 0 ? watch.seconds() : 0.0};
    ranks.all_reduce(seconds);
    if (rule.ended_by(runs.front().times.size(), seconds[0], enough)) {
      return enough;
    }
  }
}

/// Returns the median of each part of a step on this rank.
Json parts_of(const std::vector<StepReport>& reports) {
  const std::pair<const char*, double trainer::Times::*> parts[] = {
      {"layers", &trainer::Times::layers},
      {"batch_norm", &trainer::Times::batch_norm},
      {"batch_norm_exchange", &trainer::Times::batch_norm_exchange},
      {"gradient_exchange", &trainer::Times::gradient_exchange},
      {"update", &trainer::Times::update}};
  Json medians;
  for (const auto& [name, part] : parts) {
    std::vector<double> times;
    for (const StepReport& report : reports) {
      times.push_back(report.times.*part);
    }
    medians[name] = rounded(median(times).value);
  }
  return medians;
}

/// Describes when the ranks came to the exchanges of batch norm, those after the number `before`.
void add_exchanges(Json& entry, const Group& group, std::int64_t before) {
  group.clock->synchronize();
  if (const auto exchanges = layer_exchanges(*group.ranks, *group.clock, before)) {
    entry["transfer"] = describe(exchanges->arrivals.after_last_arrival());
    entry["spread"] = describe(exchanges->arrivals.spread());
    add_ranks(entry, exchanges->arrivals, group.plan.members);
  }
}

Found measure(const Plan& plan, const StoppingRule& rule, const Group& group, std::size_t which,
              const std::shared_ptr<const trainer::Split>& data, Scaling scaling) {
  Found found;
  if (!group.member) {
    return found;
  }
  const auto ranks = static_cast<std::int64_t>(group.plan.members.size());
  const std::int64_t batch = plan.batch_size * (scaling == Scaling::weak ? ranks : 1);
  std::vector<Run> runs;
  for (const Norm norm : {Norm::sync, Norm::local}) {
    runs.push_back({norm, trainer::Trainer(train_options(plan, norm, batch), *group.ranks, data)});
  }
  const std::int64_t before = group.ranks->counters().exchanges;
  const bool enough = take_steps(runs, *group.ranks, rule);
  const Interval price = ratio_of_medians({&runs[0].times, 1}, {&runs[1].times, 1}, plan.seed);
  for (const Run& run : runs) {
    Json entry = {{"kind", "step"},
                  {"enough", enough},
                  {"group", which},
                  {"scaling", name_of(scaling)},
                  {"norm", to_string(run.norm)},
                  {"batch", batch},
                  {"samples", (batch + ranks - 1) / ranks},
                  {"step", describe(run.times)},
                  {"parts", parts_of(run.reports)}};
    if (run.norm == Norm::sync) {
      entry["price"] = to_json(price);
      add_exchanges(entry, group, before);
    }
    found.samples[fmt::format("{}_step_s", to_string(run.norm))] = run.times;
    found.entries.push_back(std::move(entry));
  }
  return found;
}

}  // namespace

std::vector<Cell> step_cells(const Plan& plan, const World& world,
                             const std::vector<Group>& groups) {
  const auto data = trainer::load_everywhere(plan.data, world.communicator);
  for (const Group& group : groups) {
    const auto ranks = static_cast<std::int64_t>(group.plan.members.size());
    if (plan.batch_size * ranks > data->train.size()) {
      throw UsageError(
          fmt::format("--batch-size {} on each of {} ranks is more than the {} training images. "
                      "Make it smaller.",
                      plan.batch_size, ranks, data->train.size()));
    }
  }
  std::vector<Cell> cells;
  for (std::size_t which = 0; which < groups.size(); ++which) {
    const Group& group = groups[which];
    const std::size_t ranks = group.plan.members.size();
    for (const Scaling scaling : {Scaling::strong, Scaling::weak}) {
      if (ranks == 1 && scaling == Scaling::weak) {
        continue;  // it is the same
      }
      cells.push_back(
          {Kind::step, fmt::format("step-{}-{}", which, name_of(scaling)),
           fmt::format("training steps over {} ranks, {} scaling", ranks, name_of(scaling)),
           [=, &plan, &group](const StoppingRule& rule) {
             return measure(plan, rule, group, which, data, scaling);
           }});
    }
  }
  return cells;
}

}  // namespace syncbn::app::scale
