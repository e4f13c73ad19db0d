// SPDX-License-Identifier: Apache-2.0
#pragma once

// The CUDA kernels on the host, as a backend of all channels at once.

#include <cstddef>
#include <vector>

#include "kernels/cuda/on_host.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::test {

using kernels::cuda::OnHost;
using kernels::cuda::Order;

/// A workspace of not one byte more than it may have.
std::vector<std::byte> workspace_for(const ConstTensorView& x);

/// Without sums in fixed point.
const kernels::Kernels& cuda_on_host(Order order = Order::forward);

}  // namespace syncbn::test
