// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "syncbn/version.hpp"

#include "app/args.hpp"
#include "app/command.hpp"
#include "app/flight_directory.hpp"
#include "app/launcher.hpp"
#include "app/output_files.hpp"
#include "app/print.hpp"
#include "app/run_directory.hpp"
#include "app/scale/machine.hpp"
#include "app/study/experiments.hpp"
#include "app/study/report.hpp"
#include "app/study/settings.hpp"
#include "app/study/take_runs.hpp"
#include "app/threads.hpp"
#include "app/words.hpp"
#include "trainer/agreement.hpp"
#include "trainer/trainer.hpp"

namespace syncbn::app {
namespace {

using namespace study;

using MakeExperiment = Experiment (*)(const Plan& plan);

constexpr Word<Budget> budget_words[] = {{"quick", Budget::quick}, {"full", Budget::full}};
constexpr Word<MakeExperiment> experiment_words[] = {{"faster-training", faster_training},
                                                     {"activations", activations},
                                                     {"learning-rates", learning_rates},
                                                     {"parameter-scale", parameter_scale},
                                                     {"saturating", saturating},
                                                     {"regularization", regularization},
                                                     {"synchronize", synchronize},
                                                     {"group-size", group_size},
                                                     {"leakage", leakage}};

struct Request {
  Plan plan;
  std::vector<MakeExperiment> experiments;
  std::optional<int> seeds;
  std::uint64_t first_seed = 1;
  ProgressStyle progress = ProgressStyle::automatic;
  std::filesystem::path output;
};

void declare(CommandLine& line, Request& request) {
  line.section("What to study");
  line.choices("experiments", request.experiments, experiment_words,
               "what batch norm, and synchronizing it, are claimed to do");
  line.path("data", request.plan.data, "DIR", "data set in MNIST's format, gzipped or not");
  line.section("How long");
  line.choice("budget", request.plan.budget, budget_words,
              "minutes on two processors, or a night on a workstation");
  line.number("seeds", request.seeds, {.min = 1, .max = 1000}, "N",
              "trainings of each variant, with seeds of their own", "by --budget: 4 or 5");
  line.number("first-seed", request.first_seed, {}, "N", "the first of these seeds");
  line.number("steps", request.plan.most_steps, {.min = 1, .max = std::int64_t{1} << 40}, "N",
              "most steps of a training", "what each experiment takes with that budget");
  line.section("Output");
  line.path("output", request.output, "DIR",
            "what is found is kept here; given again, a study that was killed goes on");
  line.choice("progress", request.progress, progress_words,
              "a bar on standard error, or a line every few seconds; auto is a bar on a "
              "terminal, which mpirun hides");
  line.example("mpirun -n 2 syncbn study --output study", "all experiments, in up to ten minutes");
  line.example("python -m syncbn.report study", "draws them: study/report.html");
}

/// Returns all runs of the experiments, each once.
std::vector<Run> runs_of(const std::vector<Experiment>& experiments) {
  std::vector<Run> runs;
  for (const Experiment& experiment : experiments) {
    for (const Run& run : experiment.runs) {
      if (std::ranges::find(runs, run.name, &Run::name) == runs.end()) {
        runs.push_back(run);
      }
    }
  }
  return runs;
}

/// Describes the data set as study.json does.
Json describe(const trainer::Split& data, const std::filesystem::path& directory) {
  return {{"directory", directory.string()},
          {"training_images", data.train.size()},
          {"test_images", data.test.size()},
          {"height", data.train.height()},
          {"width", data.train.width()},
          {"classes", data.classes()},
          {"checksums", {data.train.checksum(), data.test.checksum()}}};
}

/// Returns what has to be the same for a study to go on.
Json identity(const Plan& plan, const Json& machine, const Json& data,
              const std::vector<Run>& runs) {
  return {{"version", version()},
          {"instruction_set", machine["instruction_set"]},
          {"compiler", machine["compiler"]},
          {"budget", args::text_of(plan.budget, budget_words)},
          {"seeds", plan.seeds},
          {"steps", plan.most_steps ? Json(*plan.most_steps) : Json(nullptr)},
          {"checksums", data["checksums"]},
          {"runs", runs.size()},
          {"settings", checksum_of(runs)}};
}

std::string introduction(std::size_t experiments, std::size_t runs, std::size_t missing,
                         double seconds) {
  const double minutes = std::ceil(seconds / 60);
  const std::string time = minutes < 90
                               ? fmt::format("{:.0f} minute{}", minutes, minutes == 1 ? "" : "s")
                               : fmt::format("{:.1f} hours", seconds / 3600);
  return fmt::format("syncbn study: {} experiment{}, {} runs, {} of them done already; about {}\n",
                     experiments, experiments == 1 ? "" : "s", runs, runs - missing, time);
}

class Study final : public Command {
 public:
  Study();
  int run(const World& world) override;

 private:
  void apply();
  Json head(const World& world, const Json& machine, const Json& data) const;
  void write(RunDirectory& directory, const std::vector<Experiment>& experiments,
             const std::vector<Run>& runs, const Json& start, const Communicator& ranks) const;

  Request request_;
};

Study::Study()
    : Command("study",
              "Trains small networks to see what batch norm does, and what synchronizing it does:\n"
              "each experiment over several seeds, with a verdict. The ranks share the trainings.\n"
              "The page is drawn by python -m syncbn.report DIR.") {
  for (const auto& word : experiment_words) {
    request_.experiments.push_back(word.value);
  }
  request_.plan.data = trainer::TrainOptions().data;
  declare(command_line(), request_);
}

void Study::apply() {
  if (request_.output.empty()) {
    throw UsageError(
        "--output is missing (a directory for what is found, which the page is drawn from).");
  }
  Plan& plan = request_.plan;
  const int seeds = request_.seeds.value_or(plan.by_budget(4, 5));
  const std::uint64_t last_first =
      std::numeric_limits<std::uint64_t>::max() - static_cast<std::uint64_t>(seeds - 1);
  if (request_.first_seed > last_first) {
    throw UsageError(fmt::format(
        "--first-seed is {} (at most {} with {} seeds, the last of which has to be below 2^64).",
        request_.first_seed, last_first, seeds));
  }
  plan.seeds.clear();
  for (int i = 0; i < seeds; ++i) {
    plan.seeds.push_back(request_.first_seed + static_cast<std::uint64_t>(i));
  }
}

/// Returns what study.json has besides experiments and runs.
Json Study::head(const World& world, const Json& machine, const Json& data) const {
  const Plan& plan = request_.plan;
  return {
      {"version", version()},
      {"command", start_of_command(world.communicator.size(), std::getenv) + command_line().text()},
      {"budget", args::text_of(plan.budget, budget_words)},
      {"seeds", plan.seeds},
      {"most_steps", plan.most_steps ? Json(*plan.most_steps) : Json(nullptr)},
      {"machine", machine},
      {"data", data},
      {"method",
       "Each seed gives one value of a claim; a difference is one between trainings with the same "
       "seed. The amount is the mean over seeds, and the band its 95 % confidence interval by "
       "Student's t, each claim by itself: of forty, one band or two may miss. A value that is "
       "read off a grid widens the band by the grid's step. A claim is decided only where the "
       "whole band is on one side of the margin."}};
}

/// Collective. Writes study.json and study.csv, and tells the verdicts.
void Study::write(RunDirectory& directory, const std::vector<Experiment>& experiments,
                  const std::vector<Run>& runs, const Json& start,
                  const Communicator& ranks) const {
  std::string csv;
  const Json report = directory.write_report("study.json", [&](const RunDirectory::Parts& parts) {
    std::vector<StudyRun> done;
    for (const Run& run : runs) {
      const Json& part = parts.at(run.name);
      done.push_back({&run, part["seconds"], part["results"]});
    }
    csv = to_csv(done);
    Json rest = start;
    rest.update(to_json(experiments, done, request_.plan.seeds));
    return rest;
  });
  write_report(ranks, request_.output / "study.csv", csv);
  trainer::agree(ranks, [&] {
    if (ranks.rank() == 0) {
      print(summary(report, request_.output));
    }
  });
}

int Study::run(const World& world) {
  apply();
  set_thread_count(1);  // the ranks are what computes at the same time
  const Communicator& ranks = world.communicator;
  prepare_flight_directory(ranks, command_line().exchange().flight_record);
  const auto split = trainer::load_everywhere(request_.plan.data, ranks);
  const Json data = describe(*split, request_.plan.data);
  const Json machine = scale::describe_machine(world);
  std::vector<Experiment> experiments;
  for (const MakeExperiment make : request_.experiments) {
    experiments.push_back(make(request_.plan));
  }
  const std::vector<Run> runs = runs_of(experiments);
  RunDirectory directory(ranks, request_.output, run_files(),
                         identity(request_.plan, machine, data, runs));
  const std::vector<const Run*> missing = missing_runs(runs, directory);
  const double seconds = expected_seconds(missing, request_.plan, ranks, split);
  if (ranks.rank() == 0) {
    print_at_once(introduction(experiments.size(), runs.size(), missing.size(), seconds));
  }
  take_runs(missing, ranks, split, request_.progress, directory);
  write(directory, experiments, runs, head(world, machine, data), ranks);
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_study() {
  return std::make_unique<Study>();
}

}  // namespace syncbn::app
