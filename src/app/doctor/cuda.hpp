// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "app/doctor/finding.hpp"

namespace syncbn::app::doctor {

CudaFacts read_cuda();

/// Finds cuda-driver, cuda-device, shared-device and nccl.
std::vector<Finding> find_about_cuda(const std::vector<Facts>& all);

}  // namespace syncbn::app::doctor
