// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/coefficients.hpp"

#include <algorithm>

namespace syncbn::kernels::cpu {
namespace {

template <class F>
const void* spread(const F* values, std::int64_t count, const Columns& columns,
                   const VectorOrder& order, Scratch& scratch) {
  const std::int64_t width = columns.padded_width();
  const std::int64_t plane = columns.extents().plane;
  const std::int64_t channels = columns.channels().size();
  F* spread = scratch.take<F>(count * width);
  F* in_order = order.interleaved ? scratch.take<F>(width) : nullptr;
  for (std::int64_t k = 0; k < count; ++k, values += channels) {
    F* const row = order.interleaved ? in_order : spread + k * width;
    for (F *to = row, *end = row + width; to < end;) {  // all copies of the channels, to the end
      if (plane == 1) {
        to = std::copy_n(values, std::min<std::int64_t>(channels, end - to), to);
      } else {
        for (std::int64_t c = 0; c < channels && to < end; ++c) {
          to = std::fill_n(to, std::min<std::int64_t>(plane, end - to), values[c]);
        }
      }
    }
    if (order.interleaved) {
      order.to_vectors(in_order, width, spread + k * width);
    }
  }
  return spread;
}

Numbers by_columns(const Numbers& of, const Columns& columns, const VectorOrder& order,
                   Scratch& scratch) {
  const void* by_columns =
      of.of_double
          ? spread(static_cast<const double*>(of.values), of.count, columns, order, scratch)
          : spread(static_cast<const float*>(of.values), of.count, columns, order, scratch);
  return {by_columns, of.count, of.of_double};
}

}  // namespace

Coefficients by_columns(const Coefficients& of_channels, const Columns& columns,
                        const VectorOrder& order, Scratch& scratch) {
  return {by_columns(of_channels.lane, columns, order, scratch),
          by_columns(of_channels.term, columns, order, scratch), columns.padded_width()};
}

}  // namespace syncbn::kernels::cpu
