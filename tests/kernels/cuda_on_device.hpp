// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/kernels.hpp"

namespace syncbn::test {

/// The CUDA kernels as a backend of all channels at once, for tensors in host memory: everything is
/// copied to the current device and back. Without sums in fixed point.
const kernels::Kernels& cuda_on_device();

}  // namespace syncbn::test
