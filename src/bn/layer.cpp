// SPDX-License-Identifier: Apache-2.0
#include "bn/layer.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "syncbn/error.hpp"

#include "bn/passes.hpp"
#include "bn/validate.hpp"
#include "comm/group/fingerprint.hpp"
#include "comm/group/group.hpp"
#include "kernels/statistics.hpp"
#include "kernels/windows.hpp"

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
  if (num_batches_tracked == 0) {  // what is there now is what running statistics start from
    start_mean = running_mean;
    start_var = running_var;
  }
  if (!knows_mean && options.track_running_stats) {
    const double share = share_of_start(options.momentum.value_or(1.0), num_batches_tracked);
    for (std::size_t c = 0; c < pivot.size(); ++c) {
      pivot[c] = without_start(running_mean[c], start_mean[c], share);
      if (is_exact() && num_batches_tracked > 0) {
        working.exact->var[c] = std::max(0.0, without_start(running_var[c], start_var[c], share));
      }
    }
  }
  std::ranges::transform(pivot, pivot.begin(),
                         [dtype](double mean) { return to_pivot(mean, dtype); });
}

void Layer::choose_next_pivot(DType dtype) {
  const Statistics& statistics = working.statistics;
  if (statistics.count == 0) {
    return;
  }
  const bool tracked = options.track_running_stats;
  const double share = share_of_start(options.momentum.value_or(1.0), num_batches_tracked);
  const double limit = is_exact() ? nearness_of_exact_sums : nearness(statistics.count, dtype);
  for (std::size_t c = 0; c < pivot.size(); ++c) {
    const ChannelStatistics batch{statistics.mean[c], statistics.var[c]};
    const double mean = tracked ? without_start(running_mean[c], start_mean[c], share) : batch.mean;
    pivot[c] = next_pivot(mean, batch, options.eps, limit, dtype);
    if (is_exact()) {
      const double var = tracked ? without_start(running_var[c], start_var[c], share) : batch.var;
      working.exact->var[c] = next_variance(var, batch.var);
    }
  }
  knows_mean = true;
}

std::uint64_t Layer::shared_state() const {
  if (communicator.size() == 1) {
    return 0;  // nobody to compare with
  }
  comm::Fingerprint print;
  if (is_exact()) {
    print.add(std::as_bytes(std::span(working.exact->var)))
        .add(std::as_bytes(std::span(working.exact->gradient_exponent)));
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
                         [&](double var) { return inverse_std(var, options.eps); });
}

void Layer::update_running_statistics() {
  const Statistics& statistics = working.statistics;
  const double n = statistics.count;
  if (!options.track_running_stats || n == 0) {
    return;
  }
  ++num_batches_tracked;
  const double newest = options.momentum.value_or(1.0 / static_cast<double>(num_batches_tracked));
  for (std::size_t c = 0; c < running_mean.size(); ++c) {
    move_running(running_mean[c], running_var[c], {statistics.mean[c], statistics.var[c]}, n,
                 newest);
  }
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
