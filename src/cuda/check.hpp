// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <source_location>

#include <cuda_runtime_api.h>

namespace syncbn::cuda {

/// Throws DeviceError unless `status` is success. The message is what we were doing ("launching
/// ..."), what CUDA says, and where in our code. Clears the error, if it is one after which CUDA
/// can go on; after others (an illegal access, say) every call fails until the process ends.
void check(cudaError_t status, const char* doing,
           std::source_location where = std::source_location::current());

}  // namespace syncbn::cuda
