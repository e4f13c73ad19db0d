// SPDX-License-Identifier: Apache-2.0
//
// With n = sums.back(), s = sum(x - K), q = sum((x - K)^2) over the group:
//
//   mean = K + s / n,   var = max(0, q / n - (s / n)^2),   invstd = 1 / sqrt(var + eps)

#include "bn/host/phases.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "syncbn/error.hpp"

#include "channels/finalize.hpp"
#include "channels/for_each.hpp"

namespace syncbn::bn {
namespace {

constexpr std::int64_t cache_parts = 8;

std::int64_t bytes_of(const ConstTensorView& x) {
  return x.shape().size() * static_cast<std::int64_t>(size_of(x.dtype()));
}

/// Returns how to run a kernel that writes a tensor like x. It writes past the cache if x and its
/// result do not both fit there: the result would only push out what is of use.
kernels::Run run_for(const ConstTensorView& x, const kernels::Kernels& kernels,
                     Workspace& working) {
  return {.scratch = working.scratch, .stream = 2 * bytes_of(x) > kernels.cache_bytes()};
}

/// Sets working.scale to gamma * invstd and working.shift to beta, without affine with gamma 1 and
/// beta 0.
void set_coefficients(const ChannelRange& channels, const Statistics& statistics,
                      const Affine& affine, Workspace& working) {
  working.scale.resize(statistics.invstd.size());
  working.shift.resize(statistics.invstd.size());
  const channels::SetAffine set{affine.gamma.empty() ? nullptr : affine.gamma.data(),
                                affine.beta.empty() ? nullptr : affine.beta.data(),
                                working.scale.data(), working.shift.data()};
  for (std::int64_t c = channels.begin; c < channels.end; ++c) {
    set.of_channel(c, statistics.invstd[static_cast<std::size_t>(c)]);
  }
}

}  // namespace

bool leaves_float(std::size_t c, const Statistics& statistics, const Workspace& working) {
  constexpr double most = 0x1p100;
  const double invstd = statistics.invstd[c];
  const double scale = std::fabs(working.scale[c]);
  return invstd > most || (invstd > 0 && invstd < 1 / most) ||
         scale > static_cast<double>(std::numeric_limits<float>::max());
}

double count_of(const ConstTensorView& x, PositionWeights position_weights) {
  const auto positions = static_cast<std::size_t>(x.shape().per_channel());
  if (position_weights.empty()) {
    return static_cast<double>(positions);
  }
  if (position_weights.size() != positions) {
    throw InvalidArgument("position_weights has " + std::to_string(position_weights.size()) +
                          " values (x has N*S = " + std::to_string(positions) + " positions)");
  }
  double count = 0;
  for (std::size_t i = 0; i < positions; ++i) {
    if (!(position_weights[i] >= 0 && std::isfinite(position_weights[i]))) {
      throw InvalidArgument("position_weights[" + std::to_string(i) +
                            "] = " + std::to_string(position_weights[i]) +
                            " (a finite number of at least 0)");
    }
    count += static_cast<double>(position_weights[i]);
  }
  return count;
}

std::int64_t blocks_of(const ConstTensorView& x, Backend backend) {
  const kernels::Kernels& kernels = kernels::select(backend);
  const std::int64_t cache = kernels.cache_bytes();
  const std::int64_t channels = x.shape().c;
  const std::int64_t channel = std::max<std::int64_t>(1, 2 * bytes_of(x) / channels);
  const std::int64_t fit = cache / cache_parts / channel;
  const std::int64_t size = std::max(fit, kernels.least_channels(x));
  const bool all_fit = 2 * bytes_of(x) <= cache;
  const bool none_fit = size > cache / 2 / channel;
  return all_fit || none_fit ? 1 : (channels + size - 1) / size;
}

ChannelRange block(std::int64_t channels, std::int64_t blocks, std::int64_t k) {
  return {channels * k / blocks, channels * (k + 1) / blocks};
}

void forward_sums(const ConstTensorView& x, const ChannelRange& channels,
                  PositionWeights position_weights, std::span<const double> pivot,
                  std::span<double> sums, Backend backend, Workspace& working) {
  kernels::select(backend).forward_sums({.x = x,
                                         .channels = channels,
                                         .weight = data_or_null(position_weights),
                                         .pivot = pivot.data(),
                                         .sum = sums.data(),
                                         .sum_sq = sums.data() + x.shape().c},
                                        {.scratch = working.scratch});
}

void finalize(const ChannelRange& channels, std::span<const double> sums,
              std::span<const double> pivot, double eps, Statistics& out) {
  out.count = sums.back();
  const channels::FinalizeStatistics statistics{static_cast<std::int64_t>(pivot.size()),
                                                sums.data(),
                                                pivot.data(),
                                                eps,
                                                out.mean.data(),
                                                out.var.data(),
                                                out.invstd.data()};
  channels::take_channels(statistics, channels);
}

void normalize(const ConstTensorView& x, const ChannelRange& channels, const Statistics& statistics,
               const Affine& affine, Activation activation,
               const std::optional<ConstTensorView>& residual, const TensorView& y,
               PositionWeights position_weights, Backend backend, Workspace& working) {
  set_coefficients(channels, statistics, affine, working);
  in_range_of(x.dtype(), backend, channels, statistics, working,
              [&](const kernels::Kernels& kernels, const ChannelRange& part) {
                kernels.normalize({.x = x,
                                   .channels = part,
                                   .weight = data_or_null(position_weights),
                                   .mean = statistics.mean.data(),
                                   .scale = working.scale.data(),
                                   .shift = working.shift.data(),
                                   .residual = residual ? residual->data() : nullptr,
                                   .negative_slope = activation.negative_slope,
                                   .y = y.data()},
                                  run_for(x, kernels, working));
              });
}

kernels::Upstream upstream_of(const BackwardContext& context, const ChannelRange& channels,
                              Workspace& working) {
  set_coefficients(channels, context.statistics, context.affine, working);
  return {.data = context.x,
          .source = context.from_output ? kernels::Source::output : kernels::Source::input,
          .weight = data_or_null(context.position_weights),
          .dy = context.dy.data(),
          .y = context.y ? context.y->data() : nullptr,
          .mean = context.statistics.mean.data(),
          .scale = working.scale.data(),
          .shift = working.shift.data(),
          .negative_slope = context.activation.negative_slope};
}

void backward_sums(const BackwardContext& context, const ChannelRange& channels,
                   std::span<double> sums, Backend backend, Workspace& working) {
  const kernels::Upstream upstream = upstream_of(context, channels, working);
  in_range_of(context.x.dtype(), backend, channels, context.statistics, working,
              [&](const kernels::Kernels& kernels, const ChannelRange& part) {
                kernels.backward_sums({.upstream = upstream,
                                       .channels = part,
                                       .sum_dz = sums.data(),
                                       .sum_dz_x = sums.data() + context.x.shape().c},
                                      {.scratch = working.scratch});
              });
}

void input_gradient(const BackwardContext& context, const ChannelRange& channels,
                    std::span<const double> sums, bool frozen, const TensorView& dx,
                    const std::optional<TensorView>& dresidual, Backend backend,
                    Workspace& working) {
  const auto all = static_cast<std::size_t>(context.x.shape().c);
  working.mean_dz.resize(all);
  working.grad_slope.resize(all);
  const channels::SetGradientCoefficients coefficients{context.x.shape().c,
                                                       sums.data(),
                                                       context.statistics.invstd.data(),
                                                       frozen,
                                                       working.mean_dz.data(),
                                                       working.grad_slope.data()};
  channels::take_channels(coefficients, channels);
  const kernels::Upstream upstream = upstream_of(context, channels, working);
  in_range_of(context.x.dtype(), backend, channels, context.statistics, working,
              [&](const kernels::Kernels& kernels, const ChannelRange& part) {
                kernels.input_gradient({.upstream = upstream,
                                        .channels = part,
                                        .mean_dz = working.mean_dz.data(),
                                        .grad_slope = working.grad_slope.data(),
                                        .dx = dx.data(),
                                        .dresidual = dresidual ? dresidual->data() : nullptr},
                                       run_for(context.x, kernels, working));
              });
}

}  // namespace syncbn::bn
