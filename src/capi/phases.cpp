// SPDX-License-Identifier: Apache-2.0
#include "syncbn/phases.hpp"

#include <algorithm>

#include "syncbn/error.hpp"

#include "capi/guarded.hpp"
#include "capi/handles.hpp"

using namespace syncbn;
using capi::guarded;
using capi::require;
using capi::to_backend;
using capi::to_optional_view;
using capi::to_view;
using capi::to_weight;

namespace {

std::size_t channels_of(const TensorView& x) {
  return static_cast<std::size_t>(x.shape().c);
}

Affine to_affine(const double* gamma, const double* beta, std::size_t channels) {
  if ((gamma == nullptr) != (beta == nullptr)) {
    throw InvalidArgument("gamma and beta go together (both, or both NULL)");
  }
  if (gamma == nullptr) {
    return {};
  }
  return {{gamma, channels}, {beta, channels}};
}

Statistics to_statistics(const double* mean, const double* invstd, std::size_t channels) {
  require(mean, "mean");
  require(invstd, "invstd");
  Statistics statistics;
  statistics.mean.assign(mean, mean + channels);
  statistics.invstd.assign(invstd, invstd + channels);
  return statistics;
}

}  // namespace

size_t syncbn_sums_length(int64_t channels) {
  return channels < 1 ? 0 : sums_length(channels);
}

syncbn_status syncbn_forward_sums(const syncbn_tensor* x, const float* weight, const double* pivot,
                                  double* sums, syncbn_backend backend) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    require(pivot, "pivot");
    require(sums, "sums");
    forward_sums(view, {pivot, channels_of(view)}, {sums, sums_length(view.shape().c)},
                 to_weight(weight, view), to_backend(backend));
  });
}

syncbn_status syncbn_finalize(int64_t channels, const double* sums, double* pivot, double eps,
                              syncbn_dtype dtype, double* mean, double* var, double* invstd,
                              double* count, int* again) {
  return guarded([&] {
    if (channels < 1) {
      throw InvalidArgument(std::to_string(channels) + " channels (at least 1)");
    }
    const auto c = static_cast<std::size_t>(channels);
    const DType type = capi::to_dtype(dtype);
    const std::span<const double> summed(sums, sums_length(channels));
    require(sums, "sums");
    require(pivot, "pivot");
    for (const double* out : {mean, var, invstd, count}) {
      require(out, "mean, var, invstd or count");
    }
    if (again != nullptr) {
      *again = pivot_is_far(summed, {pivot, c}, eps, type) ? 1 : 0;
      if (*again == 1) {
        move_pivot_to_mean(summed, {pivot, c}, type);
        return;
      }
    }
    Statistics statistics;
    finalize(summed, {pivot, c}, eps, statistics);
    std::ranges::copy(statistics.mean, mean);
    std::ranges::copy(statistics.var, var);
    std::ranges::copy(statistics.invstd, invstd);
    *count = statistics.count;
  });
}

syncbn_status syncbn_normalize(const syncbn_tensor* x, const float* weight, const double* mean,
                               const double* invstd, const double* gamma, const double* beta,
                               double negative_slope, const syncbn_tensor* residual,
                               const syncbn_tensor* y, syncbn_backend backend) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    normalize(view, to_statistics(mean, invstd, channels_of(view)),
              to_affine(gamma, beta, channels_of(view)), {negative_slope},
              to_optional_view(residual, "residual"), to_view(y, "y"), to_weight(weight, view),
              to_backend(backend));
  });
}

syncbn_status syncbn_backward_sums(const syncbn_tensor* x, const syncbn_tensor* dy,
                                   const float* weight, const double* mean, const double* invstd,
                                   const double* gamma, const double* beta, double negative_slope,
                                   const syncbn_tensor* y, double* sums, syncbn_backend backend) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    require(sums, "sums");
    const Statistics statistics = to_statistics(mean, invstd, channels_of(view));
    backward_sums({.x = view,
                   .dy = to_view(dy, "dy"),
                   .statistics = statistics,
                   .affine = to_affine(gamma, beta, channels_of(view)),
                   .activation = {negative_slope},
                   .y = to_optional_view(y, "y"),
                   .weight = to_weight(weight, view)},
                  {sums, sums_length(view.shape().c)}, to_backend(backend));
  });
}

syncbn_status syncbn_input_gradient(const syncbn_tensor* x, const syncbn_tensor* dy,
                                    const float* weight, const double* mean, const double* invstd,
                                    const double* gamma, const double* beta, double negative_slope,
                                    const syncbn_tensor* y, const double* sums,
                                    const syncbn_tensor* dx, const syncbn_tensor* dresidual,
                                    syncbn_backend backend) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    require(sums, "sums");
    const Statistics statistics = to_statistics(mean, invstd, channels_of(view));
    input_gradient({.x = view,
                    .dy = to_view(dy, "dy"),
                    .statistics = statistics,
                    .affine = to_affine(gamma, beta, channels_of(view)),
                    .activation = {negative_slope},
                    .y = to_optional_view(y, "y"),
                    .weight = to_weight(weight, view)},
                   {sums, sums_length(view.shape().c)}, to_view(dx, "dx"),
                   to_optional_view(dresidual, "dresidual"), to_backend(backend));
  });
}
