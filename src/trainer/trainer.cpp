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

constexpr std::size_t message_tail = 3;  ///< numbers behind the gradients: see message_

/// Collective. Returns the ranks that share statistics with this one.
Communicator norm_group(const TrainOptions& options, const Communicator& ranks) {
  if (options.norm != Norm::sync) {
    return Communicator::self();
  }
  return options.norm_samples
             ? ranks.split_by_samples(shard(options.batch_size, ranks.rank(), ranks.size()).size(),
                                      *options.norm_samples)
             : ranks;
}

/// Returns what each grey value is as an input.
std::array<float, 256> input_values(Inputs inputs, const Dataset& data) {
  if (inputs == Inputs::grey) {
    return grey_scale(data);
  }
  std::array<float, 256> value_of{};
  std::fill(value_of.begin() + 128, value_of.end(), 1.0F);
  return value_of;
}

std::int64_t training_images(const TrainOptions& options, const Dataset& data) {
  return std::min(data.size(), options.training_images.value_or(data.size()));
}

Model network(const TrainOptions& options, const Split& data, const Communicator& norm_group) {
  return build_network(options, {data.train.height(), data.train.width(), 1}, data.classes(),
                       norm_group);
}

RunningStatistics running_statistics(const TrainOptions& options) {
  return options.norm == Norm::local || options.norm_samples ? RunningStatistics::per_rank
                                                             : RunningStatistics::shared;
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
      value_of_(input_values(options.inputs, data_->train)),
      norm_group_(norm_group(options, ranks)),
      model_(network(options, *data_, norm_group_)),
      sgd_(model_.parameters(), options.momentum),
      sampler_(training_images(options, data_->train), options.batch_size, options.seed),
      steps_(total_steps(options, sampler_.steps_per_epoch())),
      message_(count_values(model_.parameters()) + message_tail) {
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
  return static_cast<std::int64_t>(mean_gradients().size());
}

RunReport Trainer::run(Observer& observer, const Recover& recover, const StopAsked& stop_asked) {
  run_ = {};
  stop_asked_ = stop_asked;
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
    if (stops()) {
      run_.stopped = step_ < steps_;
      return;
    }
    if (snapshots_) {
      snapshots_->keep(trained(), step_);
    }
  }
  if (run_.steps == 0) {
    run_.test_accuracy = evaluate(Part::test, data_->test.size());
  }
}

void Trainer::take_step(Observer& observer) {
  StepReport report = step();
  if (sampler_.ends_epoch(step_ - 1) || step_ == steps_) {
    report.test_accuracy = evaluate(Part::test, data_->test.size());
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
  run_batch(batch);
  report.loss = mean_loss();
  report.accuracy = accuracy();

  const Stopwatch update_watch;
  sgd_.step(mean_gradients(), report.learning_rate);
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

/// Runs forward, backward and exchange. Leaves the means over the batch in message_.
void Trainer::run_batch(std::span<const std::int64_t> batch) {
  const auto images = static_cast<std::int64_t>(batch.size());
  const Pass pass{Mode::train, step_, own_part(batch)};
  exchange_gradients(run_shard(pass), images);
}

/// Returns the samples of a global batch that this rank takes, valid until the next call.
std::span<const std::int64_t> Trainer::own_part(std::span<const std::int64_t> batch) {
  if (options_.shards == Shards::by_label) {
    by_label_.assign(batch.begin(), batch.end());
    const std::span<const std::uint8_t> labels = data_->train.labels();
    std::ranges::stable_sort(by_label_, {}, [&](std::int64_t sample) {
      return labels[static_cast<std::size_t>(sample)];
    });
    batch = by_label_;
  }
  const Range mine =
      shard(static_cast<std::int64_t>(batch.size()), exchange_.rank(), exchange_.size());
  return batch.subspan(static_cast<std::size_t>(mine.begin), static_cast<std::size_t>(mine.size()));
}

/// Runs forward and backward. Leaves the summed gradients with the parameters.
Trainer::ShardReport Trainer::run_shard(const Pass& pass) {
  try {
    load_images(data_->train, pass.samples);
    const std::span<const float> logits = model_.forward(pass, images_);
    logit_gradients_.resize(logits.size());
    const double loss = softmax_cross_entropy(logits, labels_, logit_gradients_);
    const std::int64_t correct = count_correct(logits, labels_);
    model_.backward(pass, images_, logit_gradients_);
    return {loss, correct};
  } catch (const std::bad_alloc&) {
    throw Error(
        fmt::format("memory ran out for the activations of {} samples, this rank's share of a "
                    "step. Try a smaller --batch-size, or more ranks on more hosts.",
                    pass.size()));
  }
}

void Trainer::exchange_gradients(const ShardReport& shard, std::int64_t images) {
  double* out = message_.data();
  for (const Parameter* parameter : model_.parameters()) {
    out = std::copy(parameter->gradient.begin(), parameter->gradient.end(), out);
  }
  *out++ = shard.loss;
  *out++ = static_cast<double>(shard.correct);
  *out = stop_asked_ && stop_asked_() ? 1 : 0;
  exchange_.all_reduce(message_);
  for (double& value : message_) {
    value /= static_cast<double>(images);
  }
  if (!std::isfinite(mean_loss())) {
    throw Diverged(
        fmt::format("the loss of step {} is not finite (training has diverged). Try a lower "
                    "--learning-rate.",
                    step_ + 1));
  }
}

std::span<const double> Trainer::mean_gradients() const {
  return std::span(message_).first(message_.size() - message_tail);
}

double Trainer::mean_loss() const {
  return message_[message_.size() - 3];
}

double Trainer::accuracy() const {
  return message_[message_.size() - 2];
}

/// Returns whether a rank was asked to stop before the last exchange of gradients.
bool Trainer::stops() const {
  return message_.back() > 0;
}

double Trainer::evaluate(Part part, std::int64_t images) {
  images = std::min(images, this->part(part).size());
  const Range mine = shard(images, exchange_.rank(), exchange_.size());
  std::int64_t right = 0;
  infer(part, mine,
        [&](std::span<const float> logits) { right += count_correct(logits, labels_); });
  std::vector<double> correct{static_cast<double>(right)};
  exchange_.all_reduce(correct);
  return correct[0] / static_cast<double>(images);
}

std::vector<float> Trainer::last_hidden_inputs(std::int64_t images) {
  const auto layers = model_.layers();
  std::size_t activation = layers.size() - 1;
  while (activation > 0 && !layers[activation]->is_activation()) {
    --activation;
  }
  if (activation == 0) {
    throw NotConfigured(
        "the input of the last activation is not kept (the activation is fused with batch norm). "
        "Choose sigmoid or tanh.");
  }
  const std::int64_t units = layers[activation]->output_size();
  std::vector<float> inputs;
  infer(Part::test, {0, std::min(images, data_->test.size())}, [&](std::span<const float>) {
    const float* of_batch = model_.output_of(activation - 1);
    inputs.insert(inputs.end(), of_batch,
                  of_batch + static_cast<std::int64_t>(labels_.size()) * units);
  });
  return inputs;
}

void Trainer::take_population_statistics(std::int64_t images) {
  images = std::min(images, training_images(options_, data_->train));
  for (const auto& layer : model_.layers()) {
    layer->begin_population();
  }
  std::vector<std::int64_t> batch;
  for (std::int64_t begin = 0; begin < images; begin += options_.batch_size) {
    batch.resize(static_cast<std::size_t>(std::min(options_.batch_size, images - begin)));
    std::iota(batch.begin(), batch.end(), begin);
    const Pass pass{Mode::train, step_, own_part(batch)};
    load_images(data_->train, pass.samples);
    model_.forward(pass, images_);
  }
  for (const auto& layer : model_.layers()) {
    layer->end_population(exchange_);
  }
}

void Trainer::copy_parameters(Trainer& other) {
  const std::span<Parameter* const> theirs = other.parameters();
  for (std::size_t p = 0; p < theirs.size(); ++p) {
    std::ranges::copy(theirs[p]->value, model_.parameters()[p]->value.begin());
  }
}

/// Runs these images through the model, a batch at a time. Calls `see` with the logits of each.
void Trainer::infer(Part part, Range images,
                    const std::function<void(std::span<const float>)>& see) {
  std::vector<std::int64_t> samples;
  for (std::int64_t begin = images.begin; begin < images.end; begin += evaluation_batch) {
    samples.resize(static_cast<std::size_t>(std::min(evaluation_batch, images.end - begin)));
    std::iota(samples.begin(), samples.end(), begin);
    load_images(this->part(part), samples);
    see(model_.forward({Mode::infer, step_, samples}, images_));
  }
}

bool Trainer::checkpoint_is_due() const {
  return !options_.save.empty() && (step_ == steps_ || stops() || sampler_.ends_epoch(step_ - 1) ||
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
      {"scaled-weights", std::string(to_string(options_.scaled_weights))},
      {"hidden-layers", fmt::format("{}", options_.hidden_layers)},
      {"inputs", std::string(to_string(options_.inputs))},
      {"shards", std::string(to_string(options_.shards))},
      {"batch-size", fmt::format("{}", options_.batch_size)},
      {"learning-rate", fmt::format("{}", options_.learning_rate)},
      {"momentum", fmt::format("{}", options_.momentum)},
      {"schedule", std::string(to_string(options_.schedule))},
      {"seed", fmt::format("{}", options_.seed)},
      {"training-data",
       fmt::format("{} images, checksum {:08x}", training_images(options_, data_->train),
                   data_->train.checksum())},
  };
  if (options_.schedule != Schedule::constant) {
    identity["steps"] = fmt::format("{}", steps_);
  }
  if (options_.norm_samples) {
    identity["norm-samples"] = fmt::format("{}", *options_.norm_samples);
  }
  if (running_statistics(options_) == RunningStatistics::per_rank) {
    identity["ranks"] = fmt::format("{}", exchange_.size());
  }
  return identity;
}

Trained Trainer::trained() {
  return {model_, sgd_, running_statistics(options_)};
}

}  // namespace syncbn::trainer
