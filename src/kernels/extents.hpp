// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syncbn/tensor_view.hpp"

namespace syncbn::kernels {

/// Describes how a tensor of either layout lies in memory: dense, as [rows, channels, plane]. With
/// channels_last there are N*S rows, and a plane is 1 element; a tensor of a single channel is one
/// plane.
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
