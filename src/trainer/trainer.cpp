// SPDX-License-Identifier: Apache-2.0
#include "trainer/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <new>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "trainer/agreement.hpp"
#include "trainer/loss.hpp"
#include "trainer/networks.hpp"
#include "trainer/schedule.hpp"
#include "trainer/stopwatch.hpp"

namespace syncbn::trainer {
namespace {

constexpr std::int64_t evaluation_batch = 500;

const TrainOptions& validated(const TrainOptions& options) {
  validate(options);
  return options;
}

Communicator norm_group(const TrainOptions& options, const Communicator& ranks) {
  return options.norm == Norm::sync ? ranks : Communicator::self();
}

Model network(const TrainOptions& options, const Split& data, const Communicator& norm_group) {
  return build_network(options, {data.train.height(), data.train.width(), 1}, data.classes(),
                       norm_group);
}

std::size_t count_values(std::span<Parameter* const> parameters) {
  return std::transform_reduce(parameters.begin(), parameters.end(), std::size_t{0}, std::plus<>(),
                               [](const Parameter* p) { return p->value.size(); });
}

}  // namespace

std::shared_ptr<const Split> load_everywhere(const std::filesystem::path& directory,
                                             const Communicator& ranks) {
  std::shared_ptr<const Split> split;
  agree(ranks, [&] { split = std::make_shared<Split>(load_split(directory)); });
  const std::string unlike = differences(
      ranks,
      fmt::format("checksums {:08x} and {:08x}", split->train.checksum(), split->test.checksum()));
  if (!unlike.empty()) {
    throw FileError(fmt::format(
        "the ranks found different data sets in {} ({}). Put the same files everywhere.",
        directory.string(), unlike));
  }
  return split;
}

Trainer::Trainer(const TrainOptions& options, const Communicator& ranks)
    : Trainer(options, ranks, load_everywhere(validated(options).data, ranks)) {}

Trainer::Trainer(const TrainOptions& options, const Communicator& ranks,
                 std::shared_ptr<const Split> data)
    : options_(validated(options)),
      exchange_(ranks.split(0)),
      data_(std::move(data)),
      value_of_(grey_scale(data_->train)),
      norm_group_(norm_group(options, ranks)),
      model_(network(options, *data_, norm_group_)),
      sgd_(model_.parameters(), options.momentum),
      sampler_(data_->train.size(), options.batch_size, options.seed),
      steps_(total_steps(options, sampler_.steps_per_epoch())),
      message_(count_values(model_.parameters()) + 1) {
  if (options.resume.empty()) {
    return;
  }
  step_ = load_checkpoint(options.resume, trained(), identity(), exchange_);
  if (step_ > steps_) {
    throw InvalidArgument(
        fmt::format("{} is at step {} already (the run is to have {}). Ask for "
                    "more with --steps or --epochs.",
                    options.resume.string(), step_, steps_));
  }
}

std::int64_t Trainer::parameter_count() const {
  return static_cast<std::int64_t>(message_.size()) - 1;
}

RunReport Trainer::run(Observer& observer, const Recover& recover) {
  run_ = {};
  run_.test_images = data_->test.size();
  if (recover) {
    snapshots_.emplace().keep(trained(), step_);
  }
  std::optional<Communicator> survivors;
  for (;;) {
    try {
      if (survivors) {
        go_on_with(*survivors, observer);
        survivors.reset();
      }
      train(observer);
      return run_;
    } catch (const CommError& failure) {
      if (!recover) {
        throw;
      }
      survivors = recover(failure);
    }
  }
}

void Trainer::train(Observer& observer) {
  while (step_ < steps_) {
    take_step(observer);
    if (snapshots_) {
      snapshots_->keep(trained(), step_);
    }
  }
  if (run_.steps == 0) {
    run_.test_accuracy = evaluate();
  }
}

void Trainer::take_step(Observer& observer) {
  StepReport report = step();
  if (sampler_.ends_epoch(step_ - 1) || step_ == steps_) {
    report.test_accuracy = evaluate();
    run_.test_accuracy = *report.test_accuracy;
  }
  ++run_.steps;
  run_.images += report.images;
  run_.times += report.times;
  observer.on_step(report);
  if (checkpoint_is_due()) {
    save();
  }
}

/// Makes everything anew that holds a communicator, and takes its state from the snapshots.
void Trainer::go_on_with(const Communicator& survivors, Observer& observer) {
  exchange_ = survivors.split(0);
  norm_group_ = norm_group(options_, survivors);
  model_ = network(options_, *data_, norm_group_);
  sgd_ = Sgd(model_.parameters(), options_.momentum);
  step_ = snapshots_->restore(trained(), exchange_);
  observer.on_recovery(step_, exchange_);
}

StepReport Trainer::step() {
  const Stopwatch watch;
  const double batch_norm_before = model_.batch_norm_seconds();
  const double norm_exchange_before = norm_group_.counters().seconds;
  const double exchange_before = exchange_.counters().seconds;

  StepReport report;
  report.learning_rate = learning_rate(options_, step_, steps_);
  report.epoch = sampler_.epoch_of(step_) + 1;
  report.steps = steps_;
  const std::span<const std::int64_t> batch = sampler_.global_batch(step_);
  report.images = static_cast<std::int64_t>(batch.size());
  report.loss = global_loss(batch);

  const Stopwatch update_watch;
  sgd_.step(std::span(message_).first(message_.size() - 1), report.learning_rate);
  Times& times = report.times;
  times.update = update_watch.seconds();
  times.gradient_exchange = exchange_.counters().seconds - exchange_before;
  times.batch_norm_exchange = norm_group_.counters().seconds - norm_exchange_before;
  times.batch_norm = model_.batch_norm_seconds() - batch_norm_before - times.batch_norm_exchange;
  times.total = watch.seconds();
  times.layers = times.total - times.update - times.gradient_exchange - times.batch_norm_exchange -
                 times.batch_norm;
  report.step = ++step_;
  return report;
}

/// Runs forward, backward and exchange. Leaves the mean gradients in message_, returns the mean
/// loss.
double Trainer::global_loss(std::span<const std::int64_t> batch) {
  const auto images = static_cast<std::int64_t>(batch.size());
  const Pass pass{Mode::train, step_, own_part(batch)};
  return exchange_gradients(shard_loss(pass), images);
}

/// Returns the samples of a global batch that this rank takes.
std::span<const std::int64_t> Trainer::own_part(std::span<const std::int64_t> batch) const {
  const Range mine =
      shard(static_cast<std::int64_t>(batch.size()), exchange_.rank(), exchange_.size());
  return batch.subspan(static_cast<std::size_t>(mine.begin), static_cast<std::size_t>(mine.size()));
}

/// Runs forward and backward. Leaves the summed gradients with the parameters, returns the summed
/// loss.
double Trainer::shard_loss(const Pass& pass) {
  try {
    load_images(data_->train, pass.samples);
    const std::span<const float> logits = model_.forward(pass, images_);
    logit_gradients_.resize(logits.size());
    const double loss = softmax_cross_entropy(logits, labels_, logit_gradients_);
    model_.backward(pass, images_, logit_gradients_);
    return loss;
  } catch (const std::bad_alloc&) {
    throw Error(
        fmt::format("memory ran out for the activations of {} samples, this rank's share of a "
                    "step. Try a smaller --batch-size, or more ranks on more hosts.",
                    pass.size()));
  }
}

double Trainer::exchange_gradients(double loss, std::int64_t images) {
  double* out = message_.data();
  for (const Parameter* parameter : model_.parameters()) {
    out = std::copy(parameter->gradient.begin(), parameter->gradient.end(), out);
  }
  *out = loss;
  exchange_.all_reduce(message_);
  for (double& value : message_) {
    value /= static_cast<double>(images);
  }
  if (!std::isfinite(message_.back())) {
    throw Error(
        fmt::format("the loss of step {} is not finite (training has diverged). Try a lower "
                    "--learning-rate.",
                    step_ + 1));
  }
  return message_.back();
}

double Trainer::evaluate() {
  std::vector<double> correct{static_cast<double>(count_correct_in_shard())};
  exchange_.all_reduce(correct);
  return correct[0] / static_cast<double>(data_->test.size());
}

std::int64_t Trainer::count_correct_in_shard() {
  const Range mine = shard(data_->test.size(), exchange_.rank(), exchange_.size());
  std::vector<std::int64_t> samples;
  std::int64_t correct = 0;
  for (std::int64_t begin = mine.begin; begin < mine.end; begin += evaluation_batch) {
    samples.resize(static_cast<std::size_t>(std::min(evaluation_batch, mine.end - begin)));
    std::iota(samples.begin(), samples.end(), begin);
    load_images(data_->test, samples);
    correct += count_correct(model_.forward({Mode::infer, step_, samples}, images_), labels_);
  }
  return correct;
}

bool Trainer::checkpoint_is_due() const {
  return !options_.save.empty() && (step_ == steps_ || sampler_.ends_epoch(step_ - 1) ||
                                    (options_.save_every && step_ % *options_.save_every == 0));
}

/// Collective. Throws FileError on every rank if the weights as they are now give no finite loss.
/// The next step would tell, but then the last good checkpoint would be gone.
void Trainer::require_finite_loss() {
  agree(exchange_, [&] {
    const std::span<const std::int64_t> batch = sampler_.global_batch(step_ - 1);
    const Pass pass{Mode::infer, step_, own_part(batch)};
    load_images(data_->train, pass.samples);
    const std::span<const float> logits = model_.forward(pass, images_);
    logit_gradients_.resize(logits.size());
    if (!std::isfinite(softmax_cross_entropy(logits, labels_, logit_gradients_))) {
      throw FileError(
          fmt::format("{} is not replaced (the loss after step {} is not finite: training has "
                      "diverged). What is there is from before. Try a lower --learning-rate.",
                      options_.save.string(), step_));
    }
  });
}

void Trainer::save() {
  require_finite_loss();
  save_checkpoint(options_.save, trained(), identity(), step_, exchange_);
}

void Trainer::load_images(const Dataset& data, std::span<const std::int64_t> samples) {
  const auto size = static_cast<std::size_t>(data.height() * data.width());
  images_.resize(samples.size() * size);
  labels_.resize(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    data.image(samples[i], value_of_, images_.data() + i * size);
    labels_[i] = data.labels()[static_cast<std::size_t>(samples[i])];
  }
}

RunIdentity Trainer::identity() const {
  RunIdentity identity{
      {"model", std::string(to_string(options_.network))},
      {"norm", std::string(to_string(options_.norm))},
      {"activation", std::string(to_string(options_.chosen_activation()))},
      {"dropout", fmt::format("{}", options_.dropout)},
      {"init-scale", fmt::format("{}", options_.init_scale)},
      {"batch-size", fmt::format("{}", options_.batch_size)},
      {"learning-rate", fmt::format("{}", options_.learning_rate)},
      {"momentum", fmt::format("{}", options_.momentum)},
      {"schedule", std::string(to_string(options_.schedule))},
      {"seed", fmt::format("{}", options_.seed)},
      {"training-data",
       fmt::format("{} images, checksum {:08x}", data_->train.size(), data_->train.checksum())},
  };
  if (options_.schedule != Schedule::constant) {
    identity["steps"] = fmt::format("{}", steps_);
  }
  if (options_.norm == Norm::local) {
    identity["ranks"] = fmt::format("{}", exchange_.size());
  }
  return identity;
}

Trained Trainer::trained() {
  return {model_, sgd_,
          options_.norm == Norm::local ? RunningStatistics::per_rank : RunningStatistics::shared};
}

}  // namespace syncbn::trainer
