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
    : layer(common),
      communicator(std::move(members)),
      plan(layer.channels, layer.options.channel_blocks, layer.options.backend) {
  if (layer.is_exact()) {
    working.exact.emplace(layer.channels);
  }
  working.statistics_memory.resize(channels::StatisticsArrays::length(layer.channels));
  working.statistics =
      channels::StatisticsArrays::in(working.statistics_memory.data(), layer.channels);
}

BatchArrays HostLayer::batch_arrays() const {
  return {.channels = layer.channels,
          .running = layer.state.running(),
          .batches = layer.state.num_batches_tracked,
          .pivot = layer.state.pivot,
          .next_var = layer.is_exact() ? working.exact->of().var : nullptr};
}

void HostLayer::prepare_pivot(DType dtype) {
  if (!layer.knows_mean) {
    expect_batch(batch_arrays(), layer.options.momentum, dtype);
  }
  round_pivots(batch_arrays(), dtype);
}

void HostLayer::move_to_batch(DType dtype) {
  const double count = *working.statistics.count;
  if (count == 0) {
    return;
  }
  const double nearness =
      layer.is_exact() ? channels::nearness_of_exact_sums : channels::nearness(count, dtype);
  bn::move_to_batch(batch_arrays(), working.statistics, layer.options.eps, layer.options.momentum,
                    dtype, nearness);
  layer.knows_mean = true;
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
