// SPDX-License-Identifier: Apache-2.0
#include "syncbn/phases.hpp"

#include <array>
#include <string>
#include <vector>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/host/phases.hpp"
#include "bn/validate.hpp"
#include "channels/finalize.hpp"
#include "channels/for_each.hpp"
#include "channels/pivot.hpp"

namespace syncbn {
namespace {

using bn::CallMemory;
using bn::Memory;
using bn::memory_of;
using bn::require_aligned;
using bn::require_apart;
using bn::require_eps;
using bn::require_length;
using bn::require_like_x;
using bn::require_slope;
using bn::require_sound;

std::size_t channels_of(const ConstTensorView& x) {
  return static_cast<std::size_t>(x.shape().c);
}

const double* data_or_null(std::span<const double> values) {
  return values.empty() ? nullptr : values.data();
}

void validate(const ConstTensorView& x, const Statistics& statistics, const Affine& affine,
              Activation activation) {
  const std::size_t channels = channels_of(x);
  require_length(statistics.mean.size(), channels, "statistics.mean", x);
  require_length(statistics.invstd.size(), channels, "statistics.invstd", x);
  if (!affine.gamma.empty() || !affine.beta.empty()) {
    require_length(affine.gamma.size(), channels, "gamma", x);
    require_length(affine.beta.size(), channels, "beta", x);
  }
  require_slope(activation);
  require_aligned(memory_of("gamma", affine.gamma));
  require_aligned(memory_of("beta", affine.beta));
}

void require_apart_from(const Memory& written, const Statistics& statistics, const Affine& affine) {
  require_apart(written, {memory_of("statistics.mean", std::span(statistics.mean)),
                          memory_of("statistics.invstd", std::span(statistics.invstd)),
                          memory_of("gamma", affine.gamma), memory_of("beta", affine.beta)});
}

void validate(const BackwardContext& context) {
  validate(context.x, context.statistics, context.affine, context.activation);
  require_like_x(context.x, context.dy, "dy");
  if (context.y) {
    require_like_x(context.x, *context.y, "y");
  }
  if (context.from_output) {
    bn::require_invertible(context.activation, data_or_null(context.affine.gamma),
                           context.x.shape().c);
    if (context.y) {
      throw InvalidArgument("y and from_output (x is the output then). Leave y out.");
    }
  }
}

bn::ChannelRange require_sums_about(std::span<const double> sums, std::span<const double> pivot) {
  const std::size_t channels = pivot.size();
  if (sums.size() != 2 * channels + 1) {
    throw InvalidArgument("sums has " + std::to_string(sums.size()) + " values (a pivot of " +
                          std::to_string(channels) + " channels needs " +
                          std::to_string(2 * channels + 1) + ")");
  }
  require_aligned(memory_of("sums", sums));
  require_aligned(memory_of("pivot", pivot));
  return {0, static_cast<std::int64_t>(channels)};
}

channels::SumsAboutPivot sums_of(std::size_t c, std::span<const double> sums) {
  return {sums[c], sums[sums.size() / 2 + c], sums.back()};
}

void require_pivot(std::span<const double> pivot, DType dtype) {
  for (std::size_t c = 0; c < pivot.size(); ++c) {
    if (pivot[c] != channels::to_pivot(pivot[c], dtype)) {
      throw InvalidArgument("pivot[" + std::to_string(c) + "] = " + std::to_string(pivot[c]) +
                            " is not a finite float (of all types but f64, sums are about a "
                            "float). Round it, or use move_pivot_to_mean.");
    }
  }
}

/// Coefficients holds what kernels multiply and add, for all channels.
class Coefficients {
 public:
  Coefficients(const Statistics& statistics, const Affine& affine)
      : scale_(statistics.invstd.size()), shift_(statistics.invstd.size()) {
    const channels::SetAffine<> set{data_or_null(affine.gamma), data_or_null(affine.beta),
                                    scale_.data(), shift_.data()};
    for (std::size_t c = 0; c < scale_.size(); ++c) {
      set.of_channel(static_cast<std::int64_t>(c), statistics.invstd[c]);
    }
  }

  const double* scale() const { return scale_.data(); }
  const double* shift() const { return shift_.data(); }

 private:
  std::vector<double> scale_, shift_;
};

kernels::Upstream upstream_of(const BackwardContext& context, const Coefficients& coefficients) {
  return {.data = context.x,
          .source = context.from_output ? kernels::Source::output : kernels::Source::input,
          .weight = bn::data_or_null(context.position_weights),
          .dy = context.dy.data(),
          .y = context.y ? context.y->data() : nullptr,
          .mean = context.statistics.mean.data(),
          .scale = coefficients.scale(),
          .shift = coefficients.shift(),
          .negative_slope = context.activation.negative_slope};
}

}  // namespace

void forward_sums(ConstTensorView x, std::span<const double> pivot, std::span<double> sums,
                  PositionWeights position_weights, Backend backend) {
  const DefaultArithmetic arithmetic;
  require_length(pivot.size(), channels_of(x), "pivot", x);
  require_length(sums.size(), sums_length(x.shape().c), "sums", x);
  const std::array read = {memory_of("x", x), memory_of("position_weights", position_weights),
                           memory_of("pivot", pivot)};
  require_aligned(memory_of("sums", sums));
  for (const Memory& memory : read) {
    require_aligned(memory);
    require_apart(memory_of("sums", sums), {memory});
  }
  require_pivot(pivot, x.dtype());
  const double count = bn::count_of(x, position_weights);
  kernels::Scratch scratch;
  bn::forward_sums(x, bn::all_channels(x), position_weights, pivot, sums, backend, scratch);
  sums.back() = count;
}

bool pivot_is_far(std::span<const double> sums, std::span<const double> pivot, double eps,
                  DType dtype) {
  const DefaultArithmetic arithmetic;
  require_sums_about(sums, pivot);
  require_eps(eps);
  const double limit = channels::nearness(sums.back(), dtype);
  for (std::size_t c = 0; c < pivot.size(); ++c) {
    if (channels::pivot_is_far(sums_of(c, sums), pivot[c], eps, limit, dtype)) {
      return true;
    }
  }
  return false;
}

void move_pivot_to_mean(std::span<const double> sums, std::span<double> pivot, DType dtype) {
  const DefaultArithmetic arithmetic;
  require_sums_about(sums, pivot);
  require_apart(memory_of("pivot", pivot), {memory_of("sums", sums)});
  for (std::size_t c = 0; c < pivot.size() && sums.back() > 0; ++c) {
    pivot[c] = channels::nearer_pivot(sums_of(c, sums), pivot[c], dtype);
  }
}

void finalize(std::span<const double> sums, std::span<const double> pivot, double eps,
              Statistics& out) {
  const DefaultArithmetic arithmetic;
  const bn::ChannelRange channels = require_sums_about(sums, pivot);
  require_eps(eps);
  for (const std::vector<double>* written : {&out.mean, &out.var, &out.invstd}) {
    require_apart(memory_of("statistics", std::span(*written)),
                  {memory_of("sums", sums), memory_of("pivot", pivot)});
  }
  out.mean.resize(pivot.size());
  out.var.resize(pivot.size());
  out.invstd.resize(pivot.size());
  channels::take_channels(
      channels::FinalizeStatistics{channels.size(), sums.data(), pivot.data(), eps, out.mean.data(),
                                   out.var.data(), out.invstd.data()},
      channels);
  out.count = sums.back();
}

void normalize(ConstTensorView x, const Statistics& statistics, Affine affine,
               Activation activation, std::optional<ConstTensorView> residual, TensorView y,
               PositionWeights position_weights, Backend backend) {
  const DefaultArithmetic arithmetic;
  validate(x, statistics, affine, activation);
  require_like_x(x, y, "y");
  if (residual) {
    require_like_x(x, *residual, "residual");
  }
  require_sound(memory_of(bn::ForwardArguments{
      .x = x, .residual = residual, .y = y, .position_weights = position_weights}));
  require_apart_from(memory_of("y", y), statistics, affine);
  bn::count_of(x, position_weights);
  const Coefficients coefficients(statistics, affine);
  kernels::Scratch scratch;
  bn::normalize({.x = x,
                 .channels = bn::all_channels(x),
                 .weight = bn::data_or_null(position_weights),
                 .mean = statistics.mean.data(),
                 .scale = coefficients.scale(),
                 .shift = coefficients.shift(),
                 .residual = residual ? residual->data() : nullptr,
                 .negative_slope = activation.negative_slope,
                 .y = y.data()},
                statistics.invstd.data(), backend, scratch);
}

void backward_sums(const BackwardContext& context, std::span<double> sums, Backend backend) {
  const DefaultArithmetic arithmetic;
  validate(context);
  require_length(sums.size(), sums_length(context.x.shape().c), "sums", context.x);
  require_aligned(memory_of("sums", sums));
  require_aligned(memory_of("position_weights", context.position_weights));
  require_apart(memory_of("sums", sums), {memory_of("x", context.x), memory_of("dy", context.dy),
                                          context.y ? memory_of("y", *context.y) : Memory(),
                                          memory_of("position_weights", context.position_weights)});
  require_apart_from(memory_of("sums", sums), context.statistics, context.affine);
  const double count = bn::count_of(context.x, context.position_weights);
  const Coefficients coefficients(context.statistics, context.affine);
  kernels::Scratch scratch;
  bn::backward_sums({.upstream = upstream_of(context, coefficients),
                     .channels = bn::all_channels(context.x),
                     .sum_dz = sums.data(),
                     .sum_dz_x = sums.data() + context.x.shape().c},
                    context.statistics.invstd.data(), backend, scratch);
  sums.back() = count;
}

void input_gradient(const BackwardContext& context, std::span<const double> sums, TensorView dx,
                    std::optional<TensorView> dresidual, Backend backend) {
  const DefaultArithmetic arithmetic;
  validate(context);
  require_length(sums.size(), sums_length(context.x.shape().c), "sums", context.x);
  require_like_x(context.x, dx, "dx");
  if (dresidual) {
    require_like_x(context.x, *dresidual, "dresidual");
    if (context.from_output) {
      throw InvalidArgument(
          "dresidual and from_output (a residual cannot be told from the output).");
    }
  }
  const CallMemory memory =
      memory_of(bn::BackwardArguments{.x = context.x,
                                      .dy = context.dy,
                                      .dx = dx,
                                      .y = context.y,
                                      .dresidual = dresidual,
                                      .position_weights = context.position_weights});
  require_sound(memory);
  require_aligned(memory_of("sums", sums));
  for (const Memory& written : memory.written) {
    require_apart(written, {memory_of("sums", sums)});
    require_apart_from(written, context.statistics, context.affine);
  }
  bn::count_of(context.x, context.position_weights);
  const Coefficients coefficients(context.statistics, context.affine);
  const bn::ChannelRange all = bn::all_channels(context.x);
  const double* invstd = context.statistics.invstd.data();
  std::vector<double> mean_dz(channels_of(context.x)), grad_slope(channels_of(context.x));
  channels::take_channels(channels::SetGradientCoefficients{all.size(), sums.data(), invstd, false,
                                                            mean_dz.data(), grad_slope.data()},
                          all);
  kernels::Scratch scratch;
  bn::input_gradient({.upstream = upstream_of(context, coefficients),
                      .channels = all,
                      .mean_dz = mean_dz.data(),
                      .grad_slope = grad_slope.data(),
                      .dx = dx.data(),
                      .dresidual = dresidual ? dresidual->data() : nullptr},
                     invstd, backend, scratch);
}

}  // namespace syncbn
