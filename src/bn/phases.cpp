// SPDX-License-Identifier: Apache-2.0
//
// With n = sums.back(), s = sum(x - K), q = sum((x - K)^2) over the group:
//
//   mean = K + s / n,   var = max(0, q / n - (s / n)^2),   invstd = 1 / sqrt(var + eps)
//
// Accumulated in double about a pivot K, q carries a relative error of about 3 sqrt(n) u (1 + k^2),
// u = 2^-53, k = |mean - K| / std (shifted data; Chan, Golub & LeVeque 1983, with sqrt(n) in place
// of n for rounding errors that do not all point the same way). The share of k is what another
// pivot can remove, so it alone decides about a retry; none is asked for where a float cannot come
// nearer.

#include "syncbn/phases.hpp"

#include <cmath>
#include <string>

#include "syncbn/error.hpp"

#include "bn/statistics.hpp"
#include "bn/validate.hpp"
#include "kernels/kernels.hpp"

namespace syncbn {
namespace {

std::size_t channels_of(const ConstTensorView& x) {
  return static_cast<std::size_t>(x.shape().c);
}

void validate(const ConstTensorView& x, const Statistics& statistics, const Affine& affine) {
  const std::size_t channels = channels_of(x);
  require_length(statistics.mean.size(), channels, "statistics.mean", x);
  require_length(statistics.invstd.size(), channels, "statistics.invstd", x);
  if (!affine.gamma.empty() || !affine.beta.empty()) {
    require_length(affine.gamma.size(), channels, "gamma", x);
    require_length(affine.beta.size(), channels, "beta", x);
  }
}

void validate(const BackwardContext& context) {
  validate(context.x, context.statistics, context.affine);
  require_like_x(context.x, context.dy, "dy");
  if (context.y) {
    require_like_x(context.x, *context.y, "y");
  }
}

void require_sums_about(std::span<const double> sums, std::size_t channels) {
  if (sums.size() != 2 * channels + 1) {
    throw InvalidArgument("sums has " + std::to_string(sums.size()) + " values (a pivot of " +
                          std::to_string(channels) + " channels needs " +
                          std::to_string(2 * channels + 1) + ")");
  }
}

/// gamma * invstd and beta, with the defaults filled in.
struct Coefficients {
  std::vector<double> scale;
  std::vector<double> shift;

  Coefficients(const Statistics& statistics, const Affine& affine)
      : scale(statistics.invstd), shift(affine.beta.begin(), affine.beta.end()) {
    shift.resize(scale.size(), 0.0);
    for (std::size_t c = 0; c < affine.gamma.size(); ++c) {
      scale[c] *= affine.gamma[c];
    }
  }
};

kernels::Upstream upstream_of(const BackwardContext& context, const Coefficients& coefficients) {
  return {.x = context.x,
          .dy = context.dy.data(),
          .y = context.y ? context.y->data() : nullptr,
          .mean = context.statistics.mean.data(),
          .scale = coefficients.scale.data(),
          .shift = coefficients.shift.data(),
          .relu = context.activation == Activation::relu};
}

}  // namespace

void forward_sums(ConstTensorView x, std::span<const float> pivot, std::span<double> sums,
                  Backend backend) {
  const std::size_t channels = channels_of(x);
  require_length(pivot.size(), channels, "pivot", x);
  require_length(sums.size(), sums_length(x.shape().c), "sums", x);
  kernels::select(backend).forward_sums(
      {.x = x, .pivot = pivot.data(), .sum = sums.data(), .sum_sq = sums.data() + channels});
  sums.back() = static_cast<double>(x.shape().per_channel());
}

bool pivot_is_far(std::span<const double> sums, std::span<const float> pivot, double eps,
                  DType dtype) {
  require_sums_about(sums, pivot.size());
  const double n = sums.back();
  const std::size_t channels = pivot.size();
  const double tolerance = dtype == DType::f64 ? 1e-13 : 1e-9;
  const double rounding = 3 * std::sqrt(n) * 0x1p-53;
  for (std::size_t c = 0; c < channels && n > 0; ++c) {
    const double offset = sums[c] / n;
    const double var = std::max(0.0, sums[channels + c] / n - offset * offset);
    const bool another_is_nearer = std::fabs(offset) > 0x1p-22 * std::fabs(pivot[c]);
    if (another_is_nearer && rounding * offset * offset > tolerance * (var + eps)) {
      return true;
    }
  }
  return false;
}

void move_pivot_to_mean(std::span<const double> sums, std::span<float> pivot) {
  require_sums_about(sums, pivot.size());
  const double n = sums.back();
  for (std::size_t c = 0; c < pivot.size() && n > 0; ++c) {
    pivot[c] = to_pivot(static_cast<double>(pivot[c]) + sums[c] / n);
  }
}

void finalize(std::span<const double> sums, std::span<const float> pivot, double eps,
              Statistics& out) {
  require_sums_about(sums, pivot.size());
  if (!(eps >= 0)) {
    throw InvalidArgument("eps = " + std::to_string(eps) + " (at least 0)");
  }
  const std::size_t channels = pivot.size();
  out.mean.resize(channels);
  out.var.resize(channels);
  out.invstd.resize(channels);
  out.count = sums.back();
  const double n = out.count > 0 ? out.count : 1;  // all sums are 0 then
  for (std::size_t c = 0; c < channels; ++c) {
    const double offset = sums[c] / n;
    const double var = sums[channels + c] / n - offset * offset;
    out.mean[c] = static_cast<double>(pivot[c]) + offset;
    out.var[c] = var < 0 ? 0 : var;  // a NaN stays
    out.invstd[c] = inverse_std(out.var[c], eps);
  }
}

void normalize(ConstTensorView x, const Statistics& statistics, Affine affine,
               Activation activation, std::optional<ConstTensorView> residual, TensorView y,
               Backend backend) {
  validate(x, statistics, affine);
  require_like_x(x, y, "y");
  if (residual) {
    require_like_x(x, *residual, "residual");
  }
  const Coefficients coefficients(statistics, affine);
  kernels::select(backend).normalize({.x = x,
                                      .mean = statistics.mean.data(),
                                      .scale = coefficients.scale.data(),
                                      .shift = coefficients.shift.data(),
                                      .residual = residual ? residual->data() : nullptr,
                                      .relu = activation == Activation::relu,
                                      .y = y.data()});
}

void backward_sums(const BackwardContext& context, std::span<double> sums, Backend backend) {
  validate(context);
  require_length(sums.size(), sums_length(context.x.shape().c), "sums", context.x);
  const Coefficients coefficients(context.statistics, context.affine);
  kernels::select(backend).backward_sums({.upstream = upstream_of(context, coefficients),
                                          .sum_dz = sums.data(),
                                          .sum_dz_x = sums.data() + channels_of(context.x)});
  sums.back() = static_cast<double>(context.x.shape().per_channel());
}

void input_gradient(const BackwardContext& context, std::span<const double> sums, TensorView dx,
                    std::optional<TensorView> dresidual, Backend backend) {
  validate(context);
  require_length(sums.size(), sums_length(context.x.shape().c), "sums", context.x);
  require_like_x(context.x, dx, "dx");
  if (dresidual) {
    require_like_x(context.x, *dresidual, "dresidual");
  }
  const std::size_t channels = channels_of(context.x);
  const double n = sums.back() > 0 ? sums.back() : 1;
  const Coefficients coefficients(context.statistics, context.affine);
  std::vector<double> mean_dz(channels);
  std::vector<double> slope(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    const double invstd = context.statistics.invstd[c];
    mean_dz[c] = sums[c] / n;
    slope[c] = sums[channels + c] / n * invstd * invstd;
  }
  kernels::select(backend).input_gradient({.upstream = upstream_of(context, coefficients),
                                           .mean_dz = mean_dz.data(),
                                           .slope = slope.data(),
                                           .dx = dx.data(),
                                           .dresidual = dresidual ? dresidual->data() : nullptr});
}

}  // namespace syncbn
