// SPDX-License-Identifier: Apache-2.0
#include "bn/host/batch_state.hpp"

#include <algorithm>
#include <cstddef>

#include "channels/for_each.hpp"

namespace syncbn::bn {
namespace {

template <class Values>
void move_to_batch(const BatchArrays& arrays, const channels::RunningStatistics<Values>& running,
                   const channels::StatisticsArrays& statistics, double eps,
                   std::optional<double> momentum, DType dtype, double nearness) {
  const channels::ChannelRange all{0, arrays.channels};
  double start_share = 1;
  if (running.mean) {
    const auto shares =
        channels::BatchShares::after(*arrays.batches, momentum.value_or(1), !momentum);
    channels::take_channels(channels::MoveRunning<Values>{running, shares, *statistics.count,
                                                          statistics.mean, statistics.var},
                            all);
    *arrays.batches = shares.next;
    start_share = shares.start;
  }
  channels::take_channels(channels::ChooseNextPivot<Values>{.running = running,
                                                            .start_share = start_share,
                                                            .mean = statistics.mean,
                                                            .var = statistics.var,
                                                            .eps = eps,
                                                            .dtype = dtype,
                                                            .nearness = nearness,
                                                            .pivot = arrays.pivot,
                                                            .next_var = arrays.next_var},
                          all);
}

}  // namespace

void expect_batch(const BatchArrays& arrays, std::optional<double> momentum, DType dtype) {
  if (arrays.running.mean) {
    channels::for_each_channel(channels::ExpectBatch{.range = {0, arrays.channels},
                                                     .running = arrays.running,
                                                     .batches = arrays.batches,
                                                     .momentum = momentum.value_or(1),
                                                     .dtype = dtype,
                                                     .pivot = arrays.pivot,
                                                     .var = arrays.next_var});
  }
}

void round_pivots(const BatchArrays& arrays, DType dtype) {
  std::transform(arrays.pivot, arrays.pivot + arrays.channels, arrays.pivot,
                 [dtype](double mean) { return channels::to_pivot(mean, dtype); });
}

bool move_far_pivots(const channels::ChannelRange& channels, std::span<const double> sums,
                     std::span<double> pivot, double eps, DType dtype) {
  const double limit = channels::nearness(sums.back(), dtype);
  const std::size_t all = sums.size() / 2;
  bool any = false;
  for (auto c = static_cast<std::size_t>(channels.begin);
       c < static_cast<std::size_t>(channels.end); ++c) {
    const channels::SumsAboutPivot of_channel{sums[c], sums[all + c], sums.back()};
    if (channels::pivot_is_far(of_channel, pivot[c], eps, limit, dtype)) {
      pivot[c] = channels::nearer_pivot(of_channel, pivot[c], dtype);
      any = true;
    }
  }
  return any;
}

void move_to_batch(const BatchArrays& arrays, const channels::StatisticsArrays& statistics,
                   double eps, std::optional<double> momentum, DType dtype, double nearness) {
  channels::with_fastest(arrays.running.mean, arrays.running.var,
                         [&]<class Values>(const Values& mean, const Values& var) {
                           move_to_batch(
                               arrays,
                               channels::RunningStatistics<Values>{
                                   mean, var, arrays.running.start_mean, arrays.running.start_var},
                               statistics, eps, momentum, dtype, nearness);
                         });
}

}  // namespace syncbn::bn
