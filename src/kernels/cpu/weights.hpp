// SPDX-License-Identifier: Apache-2.0
#pragma once

// Weights of positions where a walk goes across columns: a row's are first laid out as its columns
// are.

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/partition.hpp"

namespace syncbn::kernels::cpu {

/// Columns whose weights are laid out at a time.
inline constexpr std::int64_t weighted_columns = 1024;

/// to[j - range.begin] becomes the weight of column j, with zeros behind for a step.
void lay_out_weights(const Columns& columns, const float* weight, std::int64_t row, Range range,
                     float* to);

/// Room for them.
struct WeightsOfColumns {
  float values[weighted_columns + longest_step];
};

/// Calls body(piece, weights) for pieces of a row's columns, with their weights; without weights of
/// positions for all of them at once.
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
