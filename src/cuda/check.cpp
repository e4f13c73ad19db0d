// SPDX-License-Identifier: Apache-2.0
#include "cuda/check.hpp"

#include <string>

#include "syncbn/error.hpp"

namespace syncbn::cuda {

void check(cudaError_t status, const char* doing, std::source_location where) {
  if (status == cudaSuccess) {
    return;
  }
  cudaGetLastError();  // without this the next launch would report it again
  throw DeviceError(std::string("CUDA failed ") + doing + " (" + cudaGetErrorName(status) + ": " +
                    cudaGetErrorString(status) + ") at " + where.file_name() + ":" +
                    std::to_string(where.line()));
}

}  // namespace syncbn::cuda
