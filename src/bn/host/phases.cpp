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

#include "bn/validate.hpp"
#include "channels/finalize.hpp"
#include "channels/for_each.hpp"

namespace syncbn::bn {
namespace {

std::int64_t bytes_of(const ConstTensorView& x) {
  return x.shape().size() * static_cast<std::int64_t>(size_of(x.dtype()));
}

/// Returns how to run a kernel that writes a tensor like x. It writes past the cache if x and its
/// result do not both fit there: the result would only push out what is of use.
kernels::Run run_for(const ConstTensorView& x, const kernels::Kernels& kernels,
                     kernels::Scratch& scratch) {
  return {.scratch = scratch, .stream = 2 * bytes_of(x) > kernels.cache_bytes()};
}

}  // namespace

bool leaves_float(double invstd, double scale) {
  constexpr double most = 0x1p100;
  return invstd > most || (invstd > 0 && invstd < 1 / most) ||
         std::fabs(scale) > static_cast<double>(std::numeric_limits<float>::max());
}

double count_of(const ConstTensorView& x, PositionWeights position_weights) {
  const auto positions = static_cast<std::size_t>(x.shape().per_channel());
  require_count(position_weights, x);
  if (position_weights.empty()) {
    return static_cast<double>(positions);
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

void forward_sums(const ConstTensorView& x, const ChannelRange& channels,
                  PositionWeights position_weights, std::span<const double> pivot,
                  std::span<double> sums, Backend backend, kernels::Scratch& scratch) {
  kernels::select(backend).forward_sums({.x = x,
                                         .weight = data_or_null(position_weights),
                                         .pivot = pivot.data(),
                                         .sums = sums.data()},
                                        channels, {.scratch = scratch});
}

void finalize(const ChannelRange& channels, std::span<const double> sums, const double* pivot,
              double eps, const channels::StatisticsArrays& out) {
  *out.count = sums.back();
  channels::take_channels(
      channels::FinalizeStatistics{static_cast<std::int64_t>(sums.size() / 2), sums.data(), pivot,
                                   eps, out.mean, out.var, out.invstd},
      channels);
}

void set_affine(const ChannelRange& channels, const channels::Floats& gamma,
                const channels::Floats& beta, const channels::StatisticsArrays& out) {
  channels::with_fastest(
      gamma, beta, [&]<class Values>(const Values& scales, const Values& shifts) {
        const channels::SetAffine<Values> set{scales, shifts, out.scale, out.shift};
        for (std::int64_t c = channels.begin; c < channels.end; ++c) {
          set.of_channel(c, out.invstd[c]);
        }
      });
}

void normalize(const kernels::Normalize& arguments, const ChannelRange& channels,
               const double* invstd, Backend backend, kernels::Scratch& scratch) {
  in_range_of(arguments.x.dtype(), backend, channels, invstd, arguments.scale,
              [&](const kernels::Kernels& kernels, const ChannelRange& part) {
                kernels.normalize(arguments, part, run_for(arguments.x, kernels, scratch));
              });
}

void backward_sums(const kernels::BackwardSums& arguments, const ChannelRange& channels,
                   const double* invstd, Backend backend, kernels::Scratch& scratch) {
  const kernels::Upstream& upstream = arguments.upstream;
  in_range_of(upstream.data.dtype(), backend, channels, invstd, upstream.scale,
              [&](const kernels::Kernels& kernels, const ChannelRange& part) {
                kernels.backward_sums(arguments, part, {.scratch = scratch});
              });
}

void input_gradient(const kernels::InputGradient& arguments, const ChannelRange& channels,
                    const double* invstd, Backend backend, kernels::Scratch& scratch) {
  const kernels::Upstream& upstream = arguments.upstream;
  in_range_of(upstream.data.dtype(), backend, channels, invstd, upstream.scale,
              [&](const kernels::Kernels& kernels, const ChannelRange& part) {
                kernels.input_gradient(arguments, part, run_for(upstream.data, kernels, scratch));
              });
}

}  // namespace syncbn::bn
