// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/weights.hpp"

namespace syncbn::kernels::cpu {

void lay_out_weights(const Columns& columns, const float* weight, std::int64_t row, Range range,
                     float* to) {
  const std::int64_t plane = columns.extents().plane;
  const std::int64_t once = columns.channels().size() * plane;
  for (std::int64_t j = range.begin; j < range.end;) {
    const float* of_row = weight + (row * columns.abreast() + j / once) * plane;
    const std::int64_t left = range.end - j;
    if (plane == 1) {
      const std::int64_t count = std::min(once - j % once, left);
      to = std::fill_n(to, count, *of_row);
      j += count;
    } else {
      const std::int64_t count = std::min(plane - j % plane, left);
      to = std::copy_n(of_row + j % plane, count, to);
      j += count;
    }
  }
  std::fill_n(to, longest_step, 0.0F);
}

}  // namespace syncbn::kernels::cpu
