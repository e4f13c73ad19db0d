// SPDX-License-Identifier: Apache-2.0
#include "syncbn/phases.hpp"

#include <cmath>
#include <string>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/passes.hpp"
#include "bn/pivots.hpp"
#include "bn/validate.hpp"
#include "kernels/statistics.hpp"

namespace syncbn {
namespace {

std::size_t channels_of(const ConstTensorView& x) {
  return static_cast<std::size_t>(x.shape().c);
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
}

void validate(const BackwardContext& context) {
  validate(context.x, context.statistics, context.affine, context.activation);
  require_like_x(context.x, context.dy, "dy");
  if (context.y) {
    require_like_x(context.x, *context.y, "y");
  }
  if (context.from_output) {
    require_invertible(context.activation, context.affine.gamma);
    if (context.y) {
      throw InvalidArgument("y and from_output (x is the output then). Leave y out.");
    }
  }
}

bn::ChannelRange require_sums_about(std::span<const double> sums, std::size_t channels) {
  if (sums.size() != 2 * channels + 1) {
    throw InvalidArgument("sums has " + std::to_string(sums.size()) + " values (a pivot of " +
                          std::to_string(channels) + " channels needs " +
                          std::to_string(2 * channels + 1) + ")");
  }
  return {0, static_cast<std::int64_t>(channels)};
}

void require_pivot(std::span<const double> pivot, DType dtype) {
  for (std::size_t c = 0; c < pivot.size(); ++c) {
    if (pivot[c] != to_pivot(pivot[c], dtype)) {
      throw InvalidArgument("pivot[" + std::to_string(c) + "] = " + std::to_string(pivot[c]) +
                            " is not a finite float (of all types but f64, sums are about a "
                            "float). Round it, or use move_pivot_to_mean.");
    }
  }
}

}  // namespace

void forward_sums(ConstTensorView x, std::span<const double> pivot, std::span<double> sums,
                  Weight weight, Backend backend) {
  const DefaultArithmetic arithmetic;
  require_length(pivot.size(), channels_of(x), "pivot", x);
  require_length(sums.size(), sums_length(x.shape().c), "sums", x);
  require_pivot(pivot, x.dtype());
  const double count = bn::count_of(x, weight);
  bn::Workspace working;
  bn::forward_sums(x, bn::all_channels(x), weight, pivot, sums, backend, working);
  sums.back() = count;
}

bool pivot_is_far(std::span<const double> sums, std::span<const double> pivot, double eps,
                  DType dtype) {
  const DefaultArithmetic arithmetic;
  require_sums_about(sums, pivot.size());
  for (std::size_t c = 0; c < pivot.size(); ++c) {
    if (bn::pivot_is_far(c, sums, pivot, eps, dtype)) {
      return true;
    }
  }
  return false;
}

void move_pivot_to_mean(std::span<const double> sums, std::span<double> pivot, DType dtype) {
  const DefaultArithmetic arithmetic;
  require_sums_about(sums, pivot.size());
  for (std::size_t c = 0; c < pivot.size(); ++c) {
    bn::move_pivot(c, sums, pivot, dtype);
  }
}

void finalize(std::span<const double> sums, std::span<const double> pivot, double eps,
              Statistics& out) {
  const DefaultArithmetic arithmetic;
  const bn::ChannelRange channels = require_sums_about(sums, pivot.size());
  if (!(eps >= 0)) {
    throw InvalidArgument("eps = " + std::to_string(eps) + " (at least 0)");
  }
  out.mean.resize(pivot.size());
  out.var.resize(pivot.size());
  out.invstd.resize(pivot.size());
  bn::finalize(channels, sums, pivot, eps, out);
}

void normalize(ConstTensorView x, const Statistics& statistics, Affine affine,
               Activation activation, std::optional<ConstTensorView> residual, TensorView y,
               Weight weight, Backend backend) {
  const DefaultArithmetic arithmetic;
  validate(x, statistics, affine, activation);
  require_like_x(x, y, "y");
  if (residual) {
    require_like_x(x, *residual, "residual");
  }
  bn::count_of(x, weight);
  bn::Workspace working;
  bn::normalize(x, bn::all_channels(x), statistics, affine, activation, residual, y, weight,
                backend, working);
}

void backward_sums(const BackwardContext& context, std::span<double> sums, Backend backend) {
  const DefaultArithmetic arithmetic;
  validate(context);
  require_length(sums.size(), sums_length(context.x.shape().c), "sums", context.x);
  const double count = bn::count_of(context.x, context.weight);
  bn::Workspace working;
  bn::backward_sums(context, bn::all_channels(context.x), sums, backend, working);
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
  bn::count_of(context.x, context.weight);
  bn::Workspace working;
  bn::input_gradient(context, bn::all_channels(context.x), sums, dx, dresidual, backend, working);
}

}  // namespace syncbn
