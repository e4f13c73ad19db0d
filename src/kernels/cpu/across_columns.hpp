// SPDX-License-Identifier: Apache-2.0
#pragma once

// Walks across the columns of a tensor seen as a matrix (Columns in partition.hpp), for kernels
// that add up the elements of each column.

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/partition.hpp"
#include "kernels/cpu/weights.hpp"

namespace syncbn::kernels::cpu {

/// A range of columns in some rows, which lie at equal distances.
struct PieceOfRows {
  std::int64_t rows;   ///< as many as the kernel takes together, or 1
  std::int64_t i;      ///< index of column 0 of the first row
  std::int64_t apart;  ///< elements from a row to the next
  Range columns;
  const float* weights;  ///< null, or a single row's weights of the columns, and zeros for a step
};

/// Returns the largest odd number that is not above `rows`: rows an even number apart often compete
/// for the same few places in a cache.
inline std::int64_t odd_at_most(std::int64_t rows) {
  return rows - (rows % 2 == 0 ? 1 : 0);
}

/// Calls run(piece) for all of a block. While there are enough full rows, `together` of them are
/// taken at a time, as far apart as possible: the columns' coefficients are then loaded once for
/// all of them. `weight` is null or the weights of all positions; with weights, `together` is 1.
template <class Run>
void across_columns(const Columns& columns, const Columns::Block& block, const float* weight,
                    std::int64_t together, const Run& run) {
  const auto rows = [&](std::int64_t row, std::int64_t count, std::int64_t apart, Range range) {
    for_weighted_pieces(columns, weight, row, range, [&](Range piece, const float* weights) {
      run(PieceOfRows{count, columns.index(row, 0), apart * columns.stride(), piece, weights});
    });
  };
  const std::int64_t full_rows = std::min(block.rows.end, columns.full_rows());
  std::int64_t row = block.rows.begin;
  while (full_rows - row >= together) {
    const std::int64_t apart = odd_at_most((full_rows - row) / together);
    for (std::int64_t r = 0; r < apart; ++r) {
      rows(row + r, together, apart, block.columns);
    }
    row += together * apart;
  }
  for (; row < full_rows; ++row) {
    rows(row, 1, 0, block.columns);
  }
  if (full_rows < block.rows.end) {
    rows(full_rows, 1, 0, {block.columns.begin, std::min(block.columns.end, columns.rest())});
  }
}

}  // namespace syncbn::kernels::cpu
