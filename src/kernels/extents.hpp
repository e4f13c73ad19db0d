// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syncbn/tensor_view.hpp"

namespace syncbn::kernels {

/// A tensor of either layout as memory sees it: [rows, channels, plane], dense, in this order.
/// channels_last is rows = N*S of planes of 1; a single channel is one plane of everything.
struct Extents {
  std::int64_t rows;
  std::int64_t channels;
  std::int64_t plane;

  constexpr std::int64_t size() const { return rows * channels * plane; }
};

constexpr Extents extents_of(const Shape& shape, Layout layout) {
  if (shape.c == 1) {
    return {1, 1, shape.size()};
  }
  if (layout == Layout::channels_last) {
    return {shape.n * shape.s, shape.c, 1};
  }
  return {shape.n, shape.c, shape.s};
}

}  // namespace syncbn::kernels
