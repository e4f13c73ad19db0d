// SPDX-License-Identifier: Apache-2.0
#include "core/visit_dtype.hpp"

#include "kernels/cuda/channel_sums.hpp"
#include "kernels/cuda/cuda.hpp"

namespace syncbn::kernels::cuda {

std::size_t workspace_bytes(const Shape& shape, DType dtype, Layout layout) {
  return visit_dtype(dtype, [&]<class T>() {
    std::int64_t parts = 0;
    visit_walk<vector_size<T>>(extents_of(shape, layout), Purpose::sums,
                               [&](const auto& walk) { parts = walk.parts(); });
    return bytes_of_parts(parts, shape.c);
  });
}

}  // namespace syncbn::kernels::cuda
