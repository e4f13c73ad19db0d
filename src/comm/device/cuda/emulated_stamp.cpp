// SPDX-License-Identifier: Apache-2.0
#include <cstddef>

#include "comm/device/cuda/stamp.hpp"
#include "cuda/emulated.hpp"

namespace syncbn::comm::cuda {

void launch(const Stamp& kernel, CUstream_st* stream) {
  syncbn::cuda::put_on(stream, kernel);
}

void launch(const Verify& kernel, CUstream_st* stream) {
  syncbn::cuda::put_on(stream, [kernel] {
    for (std::size_t thread = 0; thread < Verify::threads; ++thread) {
      kernel(thread);
    }
  });
}

}  // namespace syncbn::comm::cuda
