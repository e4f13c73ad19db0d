// SPDX-License-Identifier: Apache-2.0
#include "bn/layer.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "syncbn/error.hpp"

#include "bn/host/phases.hpp"
#include "bn/validate.hpp"
#include "channels/finalize.hpp"
#include "channels/for_each.hpp"
#include "comm/group/fingerprint.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {

Layer::Layer(std::int64_t count, Communicator members, BatchNormOptions wanted)
    : channels(validated(count, wanted)),
      communicator(std::move(members)),
      options(std::move(wanted)),
      identity(identify(options.name, group())),
      options_text(to_text(options)) {
  options.name = identity.name;
  const auto c = static_cast<std::size_t>(channels);
  if (options.affine) {
    weight.assign(c, 1.0);
    bias.assign(c, 0.0);
    weight_grad.assign(c, 0.0);
    bias_grad.assign(c, 0.0);
  }
  if (options.track_running_stats) {
    running_mean.assign(c, 0.0);
    running_var.assign(c, 1.0);
  }
  pivot.assign(c, 0.0);
  start_mean = running_mean;
  start_var = running_var;
  if (options.reproducibility == Reproducibility::exact) {
    working.exact.emplace(channels);
  }
  working.statistics = {.mean = std::vector<double>(c),
                        .var = std::vector<double>(c),
                        .invstd = std::vector<double>(c)};
}

void Layer::prepare_pivot(DType dtype) {
  if (!knows_mean && options.track_running_stats) {
    channels::for_each_channel(channels::ExpectBatch{.range = {0, channels},
                                                     .running = running(),
                                                     .batches = &num_batches_tracked,
                                                     .momentum = options.momentum.value_or(1),
                                                     .pivot = pivot.data(),
                                                     .var = expected_var()});
  }
  std::ranges::transform(pivot, pivot.begin(),
                         [dtype](double mean) { return channels::to_pivot(mean, dtype); });
}

void Layer::move_to_batch(DType dtype) {
  const Statistics& statistics = working.statistics;
  if (statistics.count == 0) {
    return;
  }
  double start_share = 1;
  if (options.track_running_stats) {
    const auto shares = channels::BatchShares::after(
        num_batches_tracked, options.momentum.value_or(1), !options.momentum);
    const channels::MoveRunning move{running(), shares, statistics.count, statistics.mean.data(),
                                     statistics.var.data()};
    channels::take_channels(move, {0, channels});
    num_batches_tracked = shares.next;
    start_share = shares.start;
  }
  const double nearness =
      is_exact() ? channels::nearness_of_exact_sums : channels::nearness(statistics.count, dtype);
  const channels::ChooseNextPivot choose{.running = running(),
                                         .start_share = start_share,
                                         .mean = statistics.mean.data(),
                                         .var = statistics.var.data(),
                                         .eps = options.eps,
                                         .dtype = dtype,
                                         .nearness = nearness,
                                         .pivot = pivot.data(),
                                         .next_var = expected_var()};
  channels::take_channels(choose, {0, channels});
  knows_mean = true;
}

channels::RunningStatistics Layer::running() {
  if (!options.track_running_stats) {
    return {};
  }
  return {running_mean.data(), running_var.data(), start_mean.data(), start_var.data()};
}

double* Layer::expected_var() {
  return is_exact() ? working.exact->of().var : nullptr;
}

std::uint64_t Layer::shared_state() const {
  if (communicator.size() == 1) {
    return 0;  // nobody to compare with
  }
  comm::Fingerprint print;
  if (is_exact()) {
    const channels::ExactChannels& exact = working.exact->of();
    print.add(std::as_bytes(std::span(exact.var, pivot.size())))
        .add(std::as_bytes(std::span(exact.gradient_exponent, pivot.size())));
  }
  return print.add(std::as_bytes(std::span(pivot)))
      .add(std::as_bytes(std::span(running_mean)))
      .add(std::as_bytes(std::span(running_var)))
      .add(static_cast<std::uint64_t>(forwards))
      .value();
}

std::uint64_t Layer::compared_parameters() const {
  if (communicator.size() == 1 || !options.affine || !options.compare_parameters) {
    return 0;
  }
  constexpr std::int64_t parts = 8, least = 8;
  const std::int64_t cuts = std::clamp<std::int64_t>(channels / least, 1, parts);
  const ChannelRange now = block(channels, cuts, forwards % cuts);
  const auto of_now = [&](const std::vector<double>& values) {
    return std::as_bytes(std::span(values).subspan(static_cast<std::size_t>(now.begin),
                                                   static_cast<std::size_t>(now.size())));
  };
  return comm::Fingerprint().add(of_now(weight)).add(of_now(bias)).value();
}

void Layer::take_running_statistics() {
  Statistics& statistics = working.statistics;
  statistics.mean = running_mean;
  statistics.var = running_var;
  std::ranges::transform(running_var, statistics.invstd.begin(),
                         [&](double var) { return channels::inverse_std(var, options.eps); });
}

void Layer::require_invertible() const {
  try {
    syncbn::require_invertible(options.activation, weight);
  } catch (const InvalidArgument& error) {
    const std::string why = "layer '" + options.name + "': " + error.what();
    group().refused(why);
    throw InvalidArgument(why);
  }
}

}  // namespace syncbn::bn
