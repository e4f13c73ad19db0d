// SPDX-License-Identifier: Apache-2.0
#include "bn/host/layer.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "bn/host/phases.hpp"
#include "channels/finalize.hpp"
#include "channels/for_each.hpp"
#include "comm/group/fingerprint.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {
namespace {

/// Returns the bytes of these channels' values; none for null.
std::span<const std::byte> bytes_of(channels::ConstFloats array, const ChannelRange& channels) {
  if (!array) {
    return {};
  }
  const auto bytes = static_cast<std::int64_t>(size_of(array.dtype()));
  return {static_cast<const std::byte*>(array.data()) + channels.begin * bytes,
          static_cast<std::size_t>(channels.size() * bytes)};
}

}  // namespace

HostLayer::HostLayer(Layer& common, Communicator members)
    : layer(common), communicator(std::move(members)) {
  if (layer.is_exact()) {
    working.exact.emplace(layer.channels);
  }
  working.statistics_memory.resize(channels::StatisticsArrays::length(layer.channels));
  working.statistics =
      channels::StatisticsArrays::in(working.statistics_memory.data(), layer.channels);
}

void HostLayer::prepare_pivot(DType dtype) {
  if (!layer.knows_mean && layer.options.track_running_stats) {
    channels::for_each_channel(channels::ExpectBatch{.range = {0, layer.channels},
                                                     .running = layer.state.running(),
                                                     .batches = layer.state.num_batches_tracked,
                                                     .momentum = layer.options.momentum.value_or(1),
                                                     .pivot = layer.state.pivot,
                                                     .var = expected_var()});
  }
  std::ranges::transform(pivot(), pivot().begin(),
                         [dtype](double mean) { return channels::to_pivot(mean, dtype); });
}

void HostLayer::move_to_batch(DType dtype) {
  if (*working.statistics.count == 0) {
    return;
  }
  const StateArrays& state = layer.state;
  channels::with_fastest(
      state.running_mean, state.running_var, [&](const auto& mean, const auto& var) {
        move_to_batch(channels::RunningStatistics{mean, var, state.start_mean, state.start_var},
                      dtype);
      });
  layer.knows_mean = true;
}

template <class Values>
void HostLayer::move_to_batch(const channels::RunningStatistics<Values>& running, DType dtype) {
  const channels::StatisticsArrays& statistics = working.statistics;
  const BatchNormOptions& options = layer.options;
  const double count = *statistics.count;
  double start_share = 1;
  if (options.track_running_stats) {
    const auto shares = channels::BatchShares::after(
        *layer.state.num_batches_tracked, options.momentum.value_or(1), !options.momentum);
    channels::take_channels(
        channels::MoveRunning{running, shares, count, statistics.mean, statistics.var},
        {0, layer.channels});
    *layer.state.num_batches_tracked = shares.next;
    start_share = shares.start;
  }
  const double nearness =
      layer.is_exact() ? channels::nearness_of_exact_sums : channels::nearness(count, dtype);
  channels::take_channels(channels::ChooseNextPivot<Values>{.running = running,
                                                            .start_share = start_share,
                                                            .mean = statistics.mean,
                                                            .var = statistics.var,
                                                            .eps = options.eps,
                                                            .dtype = dtype,
                                                            .nearness = nearness,
                                                            .pivot = layer.state.pivot,
                                                            .next_var = expected_var()},
                          {0, layer.channels});
}

void HostLayer::take_running_statistics(const channels::StatisticsArrays& out) const {
  channels::for_each_channel(channels::TakeRunningStatistics{.range = {0, layer.channels},
                                                             .mean = layer.state.running_mean,
                                                             .var = layer.state.running_var,
                                                             .eps = layer.options.eps,
                                                             .gamma = layer.state.weight,
                                                             .beta = layer.state.bias,
                                                             .out = out});
}

double* HostLayer::expected_var() const {
  return layer.is_exact() ? working.exact->of().var : nullptr;
}

std::uint64_t HostLayer::shared_state() const {
  if (communicator.size() == 1) {
    return 0;  // nobody to compare with
  }
  const ChannelRange all{0, layer.channels};
  comm::Fingerprint print;
  if (layer.is_exact()) {
    const channels::ExactChannels& exact = working.exact->of();
    print.add(std::as_bytes(std::span(exact.var, pivot().size())))
        .add(std::as_bytes(std::span(exact.gradient_exponent, pivot().size())));
  }
  return print.add(std::as_bytes(pivot()))
      .add(bytes_of(layer.state.running_mean, all))
      .add(bytes_of(layer.state.running_var, all))
      .add(static_cast<std::uint64_t>(layer.forwards))
      .value();
}

std::uint64_t HostLayer::compared_parameters() const {
  const BatchNormOptions& options = layer.options;
  if (communicator.size() == 1 || !options.affine || !options.compare_parameters) {
    return 0;
  }
  constexpr std::int64_t parts = 8, least = 8;
  const std::int64_t cuts = std::clamp<std::int64_t>(layer.channels / least, 1, parts);
  const ChannelRange now = block(layer.channels, cuts, layer.forwards % cuts);
  return comm::Fingerprint()
      .add(bytes_of(layer.state.weight, now))
      .add(bytes_of(layer.state.bias, now))
      .value();
}

}  // namespace syncbn::bn
