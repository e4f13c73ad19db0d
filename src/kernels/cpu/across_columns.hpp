// SPDX-License-Identifier: Apache-2.0
#pragma once

// The walk across columns, for kernels that add up what there is in each.

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/partition.hpp"
#include "kernels/cpu/weights.hpp"

namespace syncbn::kernels::cpu {

/// The same columns of some rows.
struct PieceOfRows {
  std::int64_t rows;
  std::int64_t i;      ///< index of column 0 of the first row
  std::int64_t apart;  ///< from a row to the next
  Range columns;
  const float* weights;  ///< null, or those of the columns, one row's; zeros follow for a step
};

/// Rows an even number apart often lie where a cache has the same few places for all.
inline std::int64_t odd_at_most(std::int64_t rows) {
  return rows - (rows % 2 == 0 ? 1 : 0);
}

/// Calls run(piece) for all of a block. Of full rows `together` are taken at a time, as far apart
/// as can be, while there are as many: what belongs to columns is loaded once for all. `weight`:
/// null, or the weights of all positions; then rows are taken one at a time.
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
