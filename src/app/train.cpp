// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "app/args.hpp"
#include "app/command.hpp"
#include "app/flight_directory.hpp"
#include "app/output_files.hpp"
#include "app/print.hpp"
#include "app/stop_signals.hpp"
#include "app/train_reporter.hpp"
#include "trainer/trainer.hpp"

namespace syncbn::app {
namespace {

using trainer::Inputs;
using trainer::Network;
using trainer::Norm;
using trainer::ScaledWeights;
using trainer::Schedule;
using trainer::Shards;
using trainer::TrainOptions;
using Function = trainer::dnn::Function;

/// Is the exit code of a run that a signal stopped, after a checkpoint to go on from: EX_TEMPFAIL
/// of <sysexits.h>, a failure that trying again makes good.
constexpr int exit_stopped = 75;

constexpr Word<Network> network_words[] = {{"mlp", Network::mlp}, {"cnn", Network::cnn}};
constexpr Word<Norm> norm_words[] = {
    {"none", Norm::none}, {"affine", Norm::affine}, {"local", Norm::local}, {"sync", Norm::sync}};
constexpr Word<Inputs> input_words[] = {{"grey", Inputs::grey}, {"binary", Inputs::binary}};
constexpr Word<ScaledWeights> scaled_words[] = {{"all", ScaledWeights::all},
                                                {"hidden", ScaledWeights::hidden}};
constexpr Word<Shards> shard_words[] = {{"mixed", Shards::mixed}, {"by-label", Shards::by_label}};
constexpr Word<std::optional<Function>> activation_words[] = {{"auto", std::nullopt},
                                                              {"sigmoid", Function::sigmoid},
                                                              {"tanh", Function::tanh},
                                                              {"relu", Function::relu}};
constexpr Word<Schedule> schedule_words[] = {
    {"constant", Schedule::constant}, {"cosine", Schedule::cosine}, {"step", Schedule::step}};

void declare_network(CommandLine& line, TrainOptions& options) {
  line.section("Network");
  line.choice("model", options.network, network_words, "three dense or three convolution layers");
  line.number("hidden-layers", options.hidden_layers, {.min = 1, .max = 1000}, "N", "of the mlp");
  line.choice("norm", options.norm, norm_words,
              "batch norm with statistics of each rank's samples, or of all; none at all; or a "
              "learned scale and shift in its place");
  line.number("norm-samples", options.norm_samples, {.min = 1, .max = 1 << 30}, "N",
              "with --norm sync: statistics over groups of ranks that have so many samples a step",
              "all ranks");
  line.choice("activation", options.activation, activation_words,
              "behind hidden layers; auto is sigmoid in the mlp, relu in the cnn");
  line.number("dropout", options.dropout, {.min = 0, .max = 1, .max_excluded = true}, "P",
              "probability of dropping an input of a dense layer other than the mlp's first");
  line.number("init-scale", options.init_scale, {.min = 0, .min_excluded = true}, "X",
              "factor on the standard deviation of the initial weights");
  line.choice("scaled-weights", options.scaled_weights, scaled_words,
              "whose weights that factor is on: those of all layers, or not the last one's");
}

void declare_training(CommandLine& line, TrainOptions& options, bool& elastic) {
  line.section("Training");
  line.path("data", options.data, "DIR", "data set in MNIST's format, gzipped or not");
  line.choice("inputs", options.inputs, input_words,
              "what pixels become: their grey values scaled, or 1 from half of full intensity on");
  line.number("training-images", options.training_images, {.min = 1}, "N",
              "trains with the first so many", "all");
  line.choice("shards", options.shards, shard_words,
              "each rank's part of a step's samples: as they come, or sorted by label before");
  line.number("batch-size", options.batch_size, {.min = 1, .max = 1 << 30}, "N",
              "samples per step, over all ranks");
  line.number("learning-rate", options.learning_rate, {.min = 0, .min_excluded = true}, "X",
              "at the start");
  line.number("momentum", options.momentum, {.min = 0, .max = 1, .max_excluded = true}, "X",
              "of the gradient descent");
  line.choice(
      "schedule", options.schedule, schedule_words,
      "learning rate over the run: unchanged, half a cosine down to 0, or a tenth after 1/2 "
      "and again after 3/4");
  line.number("epochs", options.epochs, {.min = 1, .max = 1 << 20}, "N", "length of the run",
              "4, without --steps");
  line.number("steps", options.steps, {.min = 1, .max = std::int64_t{1} << 40}, "N",
              "length of the run in steps", "by --epochs");
  line.number("seed", options.seed, {}, "N", "of weights, order and dropout");
  line.flag(
      "elastic", elastic,
      "when ranks die, the others go on without them; takes Open MPI 5 and mpirun --with-ft ulfm");
}

void declare_output(CommandLine& line, TrainOptions& options, std::filesystem::path& log,
                    ProgressStyle& progress) {
  line.section("Output");
  line.choice(
      "progress", progress, progress_words,
      "how far training is: a bar on standard error, or a line every few seconds; auto is a "
      "bar on a terminal, which mpirun hides");
  line.path("log", log, "FILE", "write a JSON object per step: step, loss, images_per_s, ...");
  line.path(
      "save", options.save, "FILE",
      "write a checkpoint (safetensors) after each epoch and at the end; also when a rank gets "
      "SIGUSR1 or SIGTERM, which then stop the run, with exit code 75");
  line.number("save-every", options.save_every, {.min = 1}, "N", "and every so many steps", "off");
  line.path("resume", options.resume, "FILE",
            "go on from a checkpoint, with the options of the run that wrote it");
}

void refuse_misuse(const TrainOptions& options) {
  try {
    trainer::validate(options);
  } catch (const InvalidArgument& error) {
    throw UsageError(error.what());
  }
}

void refuse_inelastic(const World& world) {
  if (!world.survivors) {
    throw UsageError(fmt::format("--elastic cannot be had: {}.", world.why_inelastic));
  }
}

std::string introduction(const TrainOptions& options, const trainer::Trainer& trainer, int ranks) {
  const trainer::Dataset& data = trainer.training_data();
  const bool all = options.batch_size > data.size();
  std::string text = fmt::format(
      "{} with {} parameters, batch norm: {}; {} images of {}x{} in {} classes from {}\n"
      "{} rank{}, {} samples a step{}, {} step{}",
      to_string(options.network), trainer.parameter_count(), to_string(options.norm), data.size(),
      data.height(), data.width(), trainer.classes(), options.data.string(), ranks,
      ranks == 1 ? "" : "s", std::min(options.batch_size, data.size()),
      all ? fmt::format(" (all there are; --batch-size is {})", options.batch_size) : "",
      trainer.steps(), trainer.steps() == 1 ? "" : "s");
  if (!options.resume.empty()) {
    text += fmt::format(", of which {} done in {}", trainer.steps_done(), options.resume.string());
  }
  return text + "\n";
}

std::string stop_notice(const TrainOptions& options, std::int64_t steps_done) {
  return fmt::format("stopped by a signal after step {}; --resume {} goes on from there\n",
                     steps_done, options.save.string());
}

class Train final : public Command {
 public:
  Train();
  int run(const World& world) override;

 private:
  TrainOptions options_;
  std::filesystem::path log_;
  ProgressStyle progress_ = ProgressStyle::automatic;
  bool elastic_ = false;
};

Train::Train()
    : Command("train",
              "Train an image classifier, data-parallel over all ranks, with synchronized batch "
              "norm.") {
  CommandLine& line = command_line();
  declare_network(line, options_);
  declare_training(line, options_, elastic_);
  declare_output(line, options_, log_, progress_);
  line.example("mpirun -n 2 syncbn train", "the cnn on Fashion-MNIST");
  line.example("mpirun -n 4 syncbn train --norm local --batch-size 16 --log local.jsonl",
               "what batch norm loses with 4 samples a rank");
  line.exclude("epochs", "steps");
}

int Train::run(const World& world) {
  refuse_misuse(options_);
  if (elastic_) {
    refuse_inelastic(world);
  }

  const Communicator& ranks = world.communicator;
  require_different_files(ranks, {{"log", log_}, {"save", options_.save}});
  require_different_files(ranks, {{"log", log_}, {"resume", options_.resume}});
  require_writable(ranks, options_.save);
  prepare_flight_directory(ranks, command_line().exchange().flight_record);
  trainer::Trainer trainer(options_, ranks);
  TrainReporter reporter(trainer, log_, progress_, ranks);
  if (ranks.rank() == 0) {
    print_at_once(introduction(options_, trainer, ranks.size()));
  }
  trainer::Recover recover;
  if (elastic_) {
    recover = [&](const CommError& failure) {
      const Survivors survivors = world.survivors(failure);
      reporter.leave_the_lost(survivors);
      return survivors.communicator;
    };
  }
  std::optional<StopSignals> signals;
  trainer::StopAsked stop_asked;
  if (!options_.save.empty()) {
    signals.emplace();
    stop_asked = [&] { return signals->caught(); };
  }
  const trainer::RunReport run = trainer.run(reporter, recover, stop_asked);
  if (reporter.leads()) {
    print(run.stopped ? stop_notice(options_, trainer.steps_done()) : summary(run));
  }
  return run.stopped ? exit_stopped : 0;
}

}  // namespace

std::unique_ptr<Command> make_train() {
  return std::make_unique<Train>();
}

}  // namespace syncbn::app
