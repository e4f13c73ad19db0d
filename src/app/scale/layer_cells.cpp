// SPDX-License-Identifier: Apache-2.0
//
// A layer: what it takes over the group and what the same layer takes without exchange, on the same
// ranks at the same time, beside its phases and copying its tensor.
#include <array>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "syncbn/phases.hpp"

#include "app/bench/layer_bench.hpp"
#include "app/bench/place.hpp"
#include "app/scale/cells.hpp"
#include "app/scale/flights.hpp"

namespace syncbn::app::scale {
namespace {

using bench::Phase;

/// What is timed, with its name in the report. The first four are whole passes.
constexpr std::array<std::pair<Phase, const char*>, 11> parts{
    {{Phase::forward, "sync_forward"},
     {Phase::backward, "sync_backward"},
     {Phase::local_forward, "local_forward"},
     {Phase::local_backward, "local_backward"},
     {Phase::sums, "sums"},
     {Phase::exchange, "exchange"},
     {Phase::normalize, "normalize"},
     {Phase::backward_sums, "backward_sums"},
     {Phase::input_gradient, "input_gradient"},
     {Phase::copy, "copy"},
     {Phase::streaming_copy, "streaming_copy"}}};

/// Returns the tasks of these parts, in their order.
std::vector<std::function<void()>> tasks_of(const bench::LayerBench& layer) {
  std::vector<std::function<void()>> tasks;
  for (const auto& [phase, name] : parts) {
    for (const bench::Task& task : layer.tasks()) {
      if (task.phase == phase) {
        tasks.emplace_back([&task] { task.run(); });
      }
    }
  }
  return tasks;
}

/// Returns (sync forward + backward) / (local forward + backward).
Json price(const Measurements& measured, std::uint64_t seed) {
  std::vector<std::vector<double>> times;
  for (std::size_t part = 0; part < 4; ++part) {
    times.push_back(measured.tasks[part].arrivals.from_first_arrival());
  }
  return to_json(ratio_of_medians(std::span(times).first(2), std::span(times).last(2), seed));
}

Found measure(const Plan& plan, const StoppingRule& rule, const Group& group, std::size_t which,
              const bench::LayerShape& layer) {
  Found found;
  if (!group.member) {
    return found;
  }
  bench::BenchOptions options;
  options.dtype = plan.dtype;
  options.layout = plan.layout;
  options.rivals = {bench::Rival::local};
  options.cache_sharers = group.plan.most_on_a_host;
  const auto place = bench::place_on_host(layer, options, *group.ranks);
  const bench::LayerBench timed(layer, options, *place);
  const std::vector<std::function<void()>> tasks = tasks_of(timed);
  StoppingRule each = rule;
  each.most = std::max(rule.fewest, rule.most / tasks.size());
  const std::int64_t before = group.ranks->counters().exchanges;
  const Measurements measured = measure_in_windows(tasks, *group.ranks, *group.clock, each);
  const auto exchanges = layer_exchanges(*group.ranks, *group.clock, before);
  if (group.ranks->rank() != 0) {
    return found;
  }
  Json entry = {{"kind", "layer"},
                {"enough", measured.enough},
                {"group", which},
                {"shape", layer.text},
                {"layers", layer.layers},
                {"channels", layer.shape.c},
                {"doubles", sums_length(layer.shape.c)},
                {"bytes", static_cast<std::size_t>(layer.shape.size()) * size_of(plan.dtype)}};
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const Arrivals& arrivals = measured.tasks[part].arrivals;
    entry[parts[part].second] = describe(arrivals.from_first_arrival());
    found.samples[parts[part].second] = {{"arrival_ns", arrivals.arrival},
                                         {"exit_ns", arrivals.exit}};
  }
  entry["price"] = price(measured, plan.seed);
  if (exchanges) {
    if (!exchanges->in_blocks) {
      entry["transfer"] = describe(exchanges->arrivals.after_last_arrival());
    }
    entry["spread"] = describe(exchanges->arrivals.spread());
    add_ranks(entry, exchanges->arrivals, group.plan.members);
  }
  found.entries.push_back(std::move(entry));
  return found;
}

}  // namespace

std::vector<Cell> layer_cells(const Plan& plan, const std::vector<Group>& groups) {
  std::vector<Cell> cells;
  for (std::size_t which = 0; which < groups.size(); ++which) {
    for (const bench::LayerShape& layer : plan.shapes) {
      const Group& group = groups[which];
      cells.push_back({Kind::layer, fmt::format("layer-{}-{}", which, layer.text),
                       fmt::format("layer {} over {} ranks", layer.text, group.plan.members.size()),
                       [=, &plan, &group](const StoppingRule& rule) {
                         return measure(plan, rule, group, which, layer);
                       }});
    }
  }
  return cells;
}

}  // namespace syncbn::app::scale
