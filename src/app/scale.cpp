// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "syncbn/version.hpp"

#include "app/args.hpp"
#include "app/command.hpp"
#include "app/flight_directory.hpp"
#include "app/hosts.hpp"
#include "app/launcher.hpp"
#include "app/print.hpp"
#include "app/run_directory.hpp"
#include "app/scale/cells.hpp"
#include "app/scale/machine.hpp"
#include "app/scale/measure_cells.hpp"
#include "app/scale/summary.hpp"
#include "app/threads.hpp"
#include "app/words.hpp"
#include "trainer/agreement.hpp"
#include "trainer/train_options.hpp"

namespace syncbn::app {
namespace {

using namespace scale;

constexpr Word<Budget> budget_words[] = {{"quick", Budget::quick}, {"full", Budget::full}};
constexpr Word<Kind> kind_words[] = {{"exchange", Kind::exchange},
                                     {"ping", Kind::ping},
                                     {"layer", Kind::layer},
                                     {"noise", Kind::noise}};

constexpr double quick_seconds = 180;  ///< of a whole run, if cells can be cut short so far

struct Request {
  Plan plan;
  std::string ranks = "powers";
  std::string shapes = "resnet50";
  std::optional<std::int64_t> batch;
  std::optional<double> cell_seconds;
  bool train = false;
  std::optional<int> threads;
  ProgressStyle progress = ProgressStyle::automatic;
  std::filesystem::path output;
};

void declare(CommandLine& line, Request& request) {
  Plan& plan = request.plan;
  line.section("What to measure");
  line.text("ranks", request.ranks, "N,..", "numbers of ranks; powers: 1, 2, 4, .. and all");
  line.choices("measure", plan.kinds, kind_words,
               "an exchange alone, messages between hosts by MPI, a layer, the ranks' noise");
  line.text("shapes", request.shapes, "SHAPES",
            "layers: resnet50, or NxCxHxW,..: samples of a rank, channels, height, width");
  line.number("batch", request.batch, {.min = 1, .max = 1 << 20}, "N",
              "samples of a rank, with --shapes resnet50", "8, with --budget full 32");
  line.choice("dtype", plan.dtype, dtype_words, "element type of layers");
  line.choice("layout", plan.layout, layout_words, "memory order of layers");
  line.flag("train", request.train, "also whole training steps, those of 'syncbn train'");
  line.path("data", plan.data, "DIR", "with --train: data set in MNIST's format");
  line.number("batch-size", plan.batch_size, {.min = 1, .max = 1 << 20}, "N",
              "with --train: samples of a step, of all ranks (strong scaling) or of each (weak)");
  line.number("threads", request.threads, {.min = 1, .max = 4096}, "N",
              "OpenMP threads of each rank",
              "OMP_NUM_THREADS, or its share of the processors and of the CPU quota");
  line.section("How long");
  line.choice("budget", plan.budget, budget_words, "minutes, or as long as narrow intervals take");
  line.number("cell-seconds", request.cell_seconds, {.min = 0, .max = 86400}, "SECONDS",
              "longest time of an exchange; layers have twice, training steps four times as long",
              "by --budget: 1 or 10");
  line.number("seed", plan.seed, {}, "N", "of the random order of the cells");
  line.section("Output");
  line.path("output", request.output, "DIR",
            "what is measured is kept here; given again, a run that was killed goes on");
  line.choice("progress", request.progress, progress_words,
              "a bar on standard error, or a line every few seconds; auto is a bar on a "
              "terminal, which mpirun hides");
  line.example("mpirun -n 4 syncbn scale --train --output scale",
               "what synchronizing costs on 1, 2 and 4 ranks");
  line.example("python -m syncbn.report scale", "draws it: scale/report.html");
}

std::vector<int> default_sizes(int all) {
  std::vector<int> sizes;
  for (int size = 1; size < all; size *= 2) {
    sizes.push_back(size);
  }
  sizes.push_back(all);
  return sizes;
}

std::vector<int> parse_sizes(const std::string& text, int all) {
  if (text == "powers") {
    return default_sizes(all);
  }
  std::vector<int> sizes;
  for (const std::string& part : args::split(text)) {
    sizes.push_back(args::to_number("ranks", part, Range<int>{.min = 1, .max = all}));
  }
  std::ranges::sort(sizes);
  sizes.erase(std::ranges::unique(sizes).begin(), sizes.end());
  return sizes;
}

/// Returns what has to be the same for a run to go on.
Json identity(const Request& request, const World& world,
              const std::map<std::string, std::vector<int>>& hosts, const Json& machine,
              const std::vector<int>& sizes, const std::vector<Cell>& cells) {
  Json names = Json::array();
  for (const Cell& cell : cells) {
    names.push_back(cell.name);
  }
  const Plan& plan = request.plan;
  return {{"version", version()},
          {"transport", world.transport},
          {"threads", thread_count()},
          {"hosts", hosts},
          {"binding", machine["binding"]},
          {"instruction_set", machine["instruction_set"]},
          {"compiler", machine["compiler"]},
          {"build_type", machine["build_type"]},
          {"ranks", sizes},
          {"budget", args::text_of(plan.budget, budget_words)},
          {"cell-seconds", plan.cell_seconds},
          {"dtype", to_string(plan.dtype)},
          {"layout", to_string(plan.layout)},
          {"batch-size", plan.batch_size},
          {"data", plan.data.string()},
          {"seed", plan.seed},
          {"cells", names}};
}

/// Says what files a run leaves.
PartFiles cell_files() {
  const auto has = [](const Json& object, const char* name, auto is_right) {
    return object.is_object() && object.contains(name) && is_right(object[name]);
  };
  const auto is_number = [](const Json& value) { return value.is_number(); };
  const auto is_entry = [=](const Json& entry) {
    return has(entry, "kind", [](const Json& value) { return value.is_string(); }) &&
           has(entry, "enough", [](const Json& value) { return value.is_boolean(); });
  };
  const auto are_entries = [=](const Json& values) {
    return values.is_array() && std::ranges::all_of(values, is_entry);
  };
  const auto is_cell = [=](const Json& cell) {
    return has(cell, "seconds", is_number) && has(cell, "entries", are_entries);
  };
  return {.command = "syncbn scale", .part = "cell", .is_part = is_cell};
}

/// Returns what scale.json has of the cells, in the order given.
Json entries_of(const std::vector<Cell>& cells, const RunDirectory::Parts& parts) {
  Json entries = Json::array();
  for (const Cell& cell : cells) {
    const Json& kept = parts.at(cell.name);
    for (const Json& found : kept["entries"]) {
      Json entry = {
          {"kind", found["kind"]}, {"order", kept["order"]}, {"seconds", kept["seconds"]}};
      entry.update(found);
      entries.push_back(std::move(entry));
    }
  }
  return entries;
}

class Scale final : public Command {
 public:
  Scale();
  int run(const World& world) override;

 private:
  void apply();
  std::vector<Cell> make_cells(const World& world,
                               const std::map<std::string, std::vector<int>>& hosts,
                               const std::vector<Group>& groups) const;
  Json head(const World& world, const Json& machine, const std::vector<Group>& groups) const;

  Request request_;
};

Scale::Scale()
    : Command(
          "scale",
          "Measures what synchronizing costs on these ranks, and on fewer of them: an exchange\n"
          "alone, layers with and without it, and training steps. The report is drawn by\n"
          "python -m syncbn.report DIR.") {
  request_.plan.data = trainer::TrainOptions().data;
  declare(command_line(), request_);
}

void Scale::apply() {
  Plan& plan = request_.plan;
  if (request_.output.empty()) {
    throw UsageError(
        "--output is missing (a directory for what is measured, which the report is drawn from).");
  }
  if (request_.batch && !bench::is_network(request_.shapes)) {
    throw UsageError(
        "--batch and --shapes NxCxHxW contradict each other: N is the batch. Leave out --batch.");
  }
  if (request_.threads && !set_thread_count(*request_.threads)) {
    throw UsageError("--threads must be 1 (this build has no OpenMP).");
  }
  const bool quick = plan.budget == Budget::quick;
  plan.shapes = bench::parse_shapes(request_.shapes, request_.batch.value_or(quick ? 8 : 32));
  std::set<std::string> seen;
  for (const bench::LayerShape& shape : plan.shapes) {
    if (!seen.insert(shape.text).second) {
      throw UsageError(fmt::format("--shapes has {} twice. Name it once.", shape.text));
    }
  }
  plan.cell_seconds = request_.cell_seconds.value_or(quick ? 1 : 10);
  plan.seconds = quick ? quick_seconds : std::numeric_limits<double>::infinity();
  if (request_.train) {
    plan.kinds.push_back(Kind::step);
  }
}

/// Collective. Returns all cells of the run, in the order of the report.
std::vector<Cell> Scale::make_cells(const World& world,
                                    const std::map<std::string, std::vector<int>>& hosts,
                                    const std::vector<Group>& groups) const {
  const Plan& plan = request_.plan;
  const Deadlines deadlines = command_line().exchange().deadlines;
  std::vector<Cell> cells;
  for (const Kind kind : plan.kinds) {
    std::vector<Cell> more;
    switch (kind) {
      case Kind::exchange:
        more = exchange_cells(plan, groups, deadlines);
        break;
      case Kind::ping:
        more = ping_cells(plan, world, hosts, deadlines);
        break;
      case Kind::layer:
        more = layer_cells(plan, groups);
        break;
      case Kind::step:
        more = step_cells(plan, world, groups);
        break;
      case Kind::noise:
        more = noise_cells(plan, groups);
        break;
    }
    std::ranges::move(more, std::back_inserter(cells));
  }
  return cells;
}

/// Returns what scale.json has besides the cells.
Json Scale::head(const World& world, const Json& machine, const std::vector<Group>& groups) const {
  const Plan& plan = request_.plan;
  const StoppingRule rule =
      stopping_rule(plan, Kind::exchange, plan.cell_seconds, world.communicator.size());
  Json described = Json::array();
  for (const Group& group : groups) {
    described.push_back(to_json(group.plan));
  }
  return {
      {"version", version()},
      {"command", start_of_command(world.communicator.size(), std::getenv) + command_line().text()},
      {"seed", plan.seed},
      {"budget", args::text_of(plan.budget, budget_words)},
      {"machine", machine},
      {"method",
       {{"probabilities", probabilities},
        {"wanted", rule.wanted},
        {"cell_seconds", plan.cell_seconds},
        {"clock_uncertainty", largest_uncertainty(world.communicator, groups)}}},
      {"groups", described}};
}

int Scale::run(const World& world) {
  apply();
  request_.plan.exchange = world.transport.starts_with("mpi ") ? "mpi" : "builtin";
  const Communicator& ranks = world.communicator;
  prepare_flight_directory(ranks, command_line().exchange().flight_record);
  const auto hosts = ranks_by_host(ranks);
  const std::vector<int> sizes = parse_sizes(request_.ranks, ranks.size());
  const Json machine = describe_machine(world);
  const std::vector<Group> groups =
      make_groups(world, plan_groups(hosts, sizes), command_line().exchange().deadlines);
  const std::vector<Cell> cells = make_cells(world, hosts, groups);
  if (cells.empty()) {
    throw UsageError(
        "there is nothing to measure (an exchange takes two ranks, ping two hosts). Start more "
        "ranks, or leave out --measure.");
  }
  RunDirectory directory(ranks, request_.output, cell_files(),
                         identity(request_, world, hosts, machine, sizes, cells));

  const std::vector<const Cell*> missing = missing_cells(cells, directory, request_.plan.seed);
  if (ranks.rank() == 0) {
    print_at_once(introduction(missing.size(), cells.size(), machine, request_.output));
  }
  measure_cells(missing, ranks, request_.plan, command_line().exchange().deadlines,
                request_.progress, directory);
  const Json start = head(world, machine, groups);
  const Json report = directory.write_report("scale.json", [&](const RunDirectory::Parts& parts) {
    Json rest = start;
    rest["cells"] = entries_of(cells, parts);
    return rest;
  });
  trainer::agree(ranks, [&] {
    if (ranks.rank() == 0) {
      print(summary(report, request_.output));
    }
  });
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_scale() {
  return std::make_unique<Scale>();
}

}  // namespace syncbn::app
