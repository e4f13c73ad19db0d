// SPDX-License-Identifier: Apache-2.0
#pragma once

// Lays out the weights of a row's positions in the order of its columns, for walks across columns.

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/partition.hpp"

namespace syncbn::kernels::cpu {

/// The number of columns whose weights are laid out at a time.
inline constexpr std::int64_t weighted_columns = 1024;

/// Sets to[j - range.begin] to the weight of each column j, with zeros behind for a longest step.
void lay_out_weights(const Columns& columns, const float* weight, std::int64_t row, Range range,
                     float* to);

/// Room for these weights and zeros.
struct WeightsOfColumns {
  float values[weighted_columns + longest_step];
};

/// Calls body(piece, weights) for pieces of a row's columns, with their weights. If `weight` is
/// null, calls it once for all columns, with null.
template <class Body>
void for_weighted_pieces(const Columns& columns, const float* weight, std::int64_t row, Range range,
                         const Body& body) {
  if (weight == nullptr) {
    body(range, static_cast<const float*>(nullptr));
    return;
  }
  WeightsOfColumns weights;
  for (std::int64_t begin = range.begin; begin < range.end; begin += weighted_columns) {
    const Range piece{begin, std::min(begin + weighted_columns, range.end)};
    lay_out_weights(columns, weight, row, piece, weights.values);
    body(piece, static_cast<const float*>(weights.values));
  }
}

}  // namespace syncbn::kernels::cpu
