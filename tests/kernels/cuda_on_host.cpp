// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda_on_host.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/cuda/backward_sums.hpp"
#include "kernels/cuda/forward_sums.hpp"
#include "kernels/cuda/input_gradient.hpp"
#include "kernels/cuda/normalize.hpp"

namespace syncbn::test {
namespace {

namespace cuda = kernels::cuda;

// Of [first, second, count] what a kernel of the table gives.
void hand_over(const std::vector<double>& sums, const ConstTensorView& x, const float* weight,
               double* first, double* second) {
  const std::int64_t channels = x.shape().c;
  const std::int64_t positions = x.shape().per_channel();
  double count = static_cast<double>(positions);
  if (weight != nullptr) {
    count = 0;
    std::for_each(weight, weight + positions, [&](double w) { count += w; });
  }
  EXPECT_NEAR(sums.back(), count, count * count * 0x1p-53);
  std::copy_n(sums.begin(), channels, first);
  std::copy_n(sums.begin() + channels, channels, second);
}

std::vector<double> nothing_yet(const ConstTensorView& x) {
  return std::vector<double>(static_cast<std::size_t>(2 * x.shape().c + 1),
                             std::numeric_limits<double>::quiet_NaN());
}

template <Order kOrder>
constexpr kernels::Kernels table{
    .forward_sums =
        [](const kernels::ForwardSums& of, const kernels::Run&) {
          std::vector<double> sums = nothing_yet(of.x);
          std::vector<std::byte> workspace = workspace_for(of.x);
          cuda::run_forward_sums({of.x, of.weight, of.pivot, sums.data(), workspace.data()},
                                 OnHost{kOrder});
          hand_over(sums, of.x, of.weight, of.sum, of.sum_sq);
        },
    .normalize =
        [](const kernels::Normalize& of, const kernels::Run&) {
          cuda::run_normalize(
              {of.x, of.weight, of.mean, of.scale, of.shift, of.residual, of.negative_slope, of.y},
              OnHost{kOrder});
        },
    .backward_sums =
        [](const kernels::BackwardSums& of, const kernels::Run&) {
          const ConstTensorView& data = of.upstream.data;
          std::vector<double> sums = nothing_yet(data);
          std::vector<std::byte> workspace = workspace_for(data);
          cuda::run_backward_sums({of.upstream, sums.data(), workspace.data()}, OnHost{kOrder});
          hand_over(sums, data, of.upstream.weight, of.sum_dz, of.sum_dz_x);
        },
    .input_gradient =
        [](const kernels::InputGradient& of, const kernels::Run&) {
          cuda::run_input_gradient({of.upstream, of.mean_dz, of.grad_slope, of.dx, of.dresidual},
                                   OnHost{kOrder});
        },
    .forward_in_fixed_point = nullptr,
    .backward_in_fixed_point = nullptr,
    .forward_magnitudes = nullptr,
    .backward_magnitudes = nullptr,
    .cache_bytes = nullptr,
    .least_channels = nullptr};

}  // namespace

std::vector<std::byte> workspace_for(const ConstTensorView& x) {
  return std::vector<std::byte>(cuda::workspace_bytes(x.shape(), x.dtype(), x.layout()),
                                std::byte{0xff});
}

const kernels::Kernels& cuda_on_host(Order order) {
  return order == Order::forward ? table<Order::forward> : table<Order::backward>;
}

}  // namespace syncbn::test
