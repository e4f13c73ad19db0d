// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda_on_host.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "kernels/cuda/backward_sums.hpp"
#include "kernels/cuda/forward_sums.hpp"
#include "kernels/cuda/input_gradient.hpp"
#include "kernels/cuda/normalize.hpp"

namespace syncbn::test {
namespace {

namespace cuda = kernels::cuda;

// A kernel of the table gives no count: here it is looked at.
void check_count(const double* sums, const ConstTensorView& x, const float* weight) {
  const std::int64_t positions = x.shape().per_channel();
  double count = static_cast<double>(positions);
  if (weight != nullptr) {
    count = 0;
    std::for_each(weight, weight + positions, [&](double w) { count += w; });
  }
  EXPECT_NEAR(sums[2 * x.shape().c], count, count * count * 0x1p-53);
}

template <Order kOrder>
constexpr kernels::Kernels table{
    .forward_sums =
        [](const kernels::ForwardSums& of, const kernels::ChannelRange&, const kernels::Run&) {
          std::vector<std::byte> workspace = workspace_for(of.x);
          cuda::run_forward_sums(of, workspace.data(), OnHost{kOrder});
          check_count(of.sums, of.x, of.weight);
        },
    .normalize = [](const kernels::Normalize& of, const kernels::ChannelRange&,
                    const kernels::Run&) { cuda::run_normalize(of, OnHost{kOrder}); },
    .backward_sums =
        [](const kernels::BackwardSums& of, const kernels::ChannelRange&, const kernels::Run&) {
          std::vector<std::byte> workspace = workspace_for(of.upstream.data);
          cuda::run_backward_sums(of, workspace.data(), OnHost{kOrder});
          check_count(of.sums, of.upstream.data, of.upstream.weight);
        },
    .input_gradient = [](const kernels::InputGradient& of, const kernels::ChannelRange&,
                         const kernels::Run&) { cuda::run_input_gradient(of, OnHost{kOrder}); },
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
