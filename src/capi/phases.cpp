// SPDX-License-Identifier: Apache-2.0
#include "syncbn/phases.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "syncbn/error.hpp"

#include "capi/guarded.hpp"
#include "capi/handles.hpp"

using namespace syncbn;
using capi::guarded;
using capi::to_backend;
using capi::to_optional_view;
using capi::to_span;
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
  return {to_span(gamma, channels, "gamma"), to_span(beta, channels, "beta")};
}

Statistics to_statistics(const double* mean, const double* invstd, std::size_t channels) {
  const auto assign = [&](std::vector<double>& to, const double* from, const char* name) {
    const std::span<const double> values = to_span(from, channels, name);
    to.assign(values.begin(), values.end());
  };
  Statistics statistics;
  assign(statistics.mean, mean, "mean");
  assign(statistics.invstd, invstd, "invstd");
  return statistics;
}

template <class T>
std::span<T> to_sums(T* sums, const TensorView& x) {
  return to_span(sums, sums_length(x.shape().c), "sums");
}

/// Throws InvalidArgument if two of the arrays share a byte.
void require_apart(std::span<const std::span<double>> arrays) {
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const std::span<double> one = arrays[i];
    for (const std::span<double> other : arrays.subspan(i + 1)) {
      if (std::less<>()(one.data(), other.data() + other.size()) &&
          std::less<>()(other.data(), one.data() + one.size())) {
        throw InvalidArgument(
            "mean, var, invstd, count and pivot overlap. Give each memory of its own.");
      }
    }
  }
}

}  // namespace

size_t syncbn_sums_length(int64_t channels) {
  return channels < 1 || channels > Shape::most_channels ? 0 : sums_length(channels);
}

syncbn_status syncbn_forward_sums(const syncbn_tensor* x, const float* position_weights,
                                  const double* pivot, double* sums, syncbn_backend backend) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    forward_sums(view, to_span(pivot, channels_of(view), "pivot"), to_sums(sums, view),
                 to_weight(position_weights, view), to_backend(backend));
  });
}

syncbn_status syncbn_finalize(int64_t channels, const double* sums, double* pivot, double eps,
                              syncbn_dtype dtype, double* mean, double* var, double* invstd,
                              double* count, int* again) {
  return guarded([&] {
    const std::size_t length = syncbn_sums_length(channels);
    if (length == 0) {
      throw InvalidArgument(std::to_string(channels) + " channels (at least 1 and at most 2^40)");
    }
    const auto c = static_cast<std::size_t>(channels);
    const DType type = capi::to_dtype(dtype);
    const std::span<const double> summed = to_span(sums, length, "sums");
    const std::span<double> about = to_span(pivot, c, "pivot");
    require_apart(std::array{to_span(mean, c, "mean"), to_span(var, c, "var"),
                             to_span(invstd, c, "invstd"), to_span(count, 1, "count"), about});
    if (again != nullptr) {
      const bool far = pivot_is_far(summed, about, eps, type);
      if (far) {
        move_pivot_to_mean(summed, about, type);
      }
      *again = far ? 1 : 0;
      if (far) {
        return;
      }
    }
    Statistics statistics;
    finalize(summed, about, eps, statistics);
    std::ranges::copy(statistics.mean, mean);
    std::ranges::copy(statistics.var, var);
    std::ranges::copy(statistics.invstd, invstd);
    *count = statistics.count;
  });
}

syncbn_status syncbn_normalize(const syncbn_tensor* x, const float* position_weights,
                               const double* mean, const double* invstd, const double* gamma,
                               const double* beta, double negative_slope,
                               const syncbn_tensor* residual, const syncbn_tensor* y,
                               syncbn_backend backend) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    normalize(view, to_statistics(mean, invstd, channels_of(view)),
              to_affine(gamma, beta, channels_of(view)), {negative_slope},
              to_optional_view(residual, "residual"), to_view(y, "y"),
              to_weight(position_weights, view), to_backend(backend));
  });
}

syncbn_status syncbn_backward_sums(const syncbn_tensor* x, const syncbn_tensor* dy,
                                   const float* position_weights, const double* mean,
                                   const double* invstd, const double* gamma, const double* beta,
                                   double negative_slope, const syncbn_tensor* y, double* sums,
                                   syncbn_backend backend) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    const Statistics statistics = to_statistics(mean, invstd, channels_of(view));
    backward_sums({.x = view,
                   .dy = to_view(dy, "dy"),
                   .statistics = statistics,
                   .affine = to_affine(gamma, beta, channels_of(view)),
                   .activation = {negative_slope},
                   .y = to_optional_view(y, "y"),
                   .position_weights = to_weight(position_weights, view)},
                  to_sums(sums, view), to_backend(backend));
  });
}

syncbn_status syncbn_input_gradient(const syncbn_tensor* x, const syncbn_tensor* dy,
                                    const float* position_weights, const double* mean,
                                    const double* invstd, const double* gamma, const double* beta,
                                    double negative_slope, const syncbn_tensor* y,
                                    const double* sums, const syncbn_tensor* dx,
                                    const syncbn_tensor* dresidual, syncbn_backend backend) {
  return guarded([&] {
    const TensorView view = to_view(x, "x");
    const Statistics statistics = to_statistics(mean, invstd, channels_of(view));
    input_gradient({.x = view,
                    .dy = to_view(dy, "dy"),
                    .statistics = statistics,
                    .affine = to_affine(gamma, beta, channels_of(view)),
                    .activation = {negative_slope},
                    .y = to_optional_view(y, "y"),
                    .position_weights = to_weight(position_weights, view)},
                   to_sums(sums, view), to_view(dx, "dx"), to_optional_view(dresidual, "dresidual"),
                   to_backend(backend));
  });
}
