// SPDX-License-Identifier: Apache-2.0

// The walk across columns, for kernels that add up what there is in each.

#if defined(SYNCBN_KERNELS_CPU_ACROSS_COLUMNS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_ACROSS_COLUMNS_INL
#undef SYNCBN_KERNELS_CPU_ACROSS_COLUMNS_INL
#else
#define SYNCBN_KERNELS_CPU_ACROSS_COLUMNS_INL
#endif

#include <algorithm>
#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/elements-inl.hpp"
#include "kernels/cpu/partition.hpp"
#include "kernels/cpu/weights-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// A step of each of kRows rows: the first from index i on, the others `apart` from each other.
template <int kRows>
struct StepOfRows {
  std::int64_t i;
  std::int64_t apart;
};

/// Rows an even number apart often lie where a cache has the same few places for all.
inline std::int64_t odd_at_most(std::int64_t rows) {
  return rows - (rows % 2 == 0 ? 1 : 0);
}

/// Steps of kRows rows, the first at index `begin` of the tensor where its column 0 is.
template <int kRows, class Kernel, class Step>
void across_piece(std::int64_t begin, std::int64_t apart, Range range, const float* weights,
                  Step step) {
  const std::int64_t size = step_of<typename Kernel::Element>();
  std::int64_t j = range.begin;
  for (; j + size <= range.end; j += size) {
    step(StepOfRows<kRows>{begin + j, apart}, j, weights, Whole{});
    weights += Kernel::weighted ? size : 0;
  }
  if (j < range.end) {
    step(StepOfRows<kRows>{begin + j, apart}, j, weights, First{range.end - j});
  }
}

/// kRows rows from `row` on, `apart` from each other.
template <int kRows, class Kernel, class Step>
void across_rows(const Kernel& kernel, const Columns& columns, std::int64_t row, std::int64_t apart,
                 Range range, const Step& step) {
  const auto across = [&](Range piece, const float* weights) {
    across_piece<kRows, Kernel>(columns.index(row, 0), apart * columns.stride(), piece, weights,
                                step);
  };
  if constexpr (Kernel::weighted) {
    for_weighted_pieces(columns, kernel.weight, row, range, across);
  } else {
    across(range, nullptr);
  }
}

/// Calls step(rows, j, weights, extent) for every step of a block: that of `rows`, a StepOfRows, at
/// the columns from j on. Of full rows kTogether are taken at a time, as far apart as can be, while
/// there are as many: what belongs to columns is loaded once for all.
template <int kTogether, class Kernel, class Step>
void across_columns(const Kernel& kernel, const Columns& columns, const Columns::Block& block,
                    const Step& step) {
  const std::int64_t full_rows = std::min(block.rows.end, columns.full_rows());
  std::int64_t row = block.rows.begin;
  while (full_rows - row >= kTogether) {
    const std::int64_t apart = odd_at_most((full_rows - row) / kTogether);
    for (std::int64_t r = 0; r < apart; ++r) {
      across_rows<kTogether>(kernel, columns, row + r, apart, block.columns, step);
    }
    row += kTogether * apart;
  }
  for (; row < full_rows; ++row) {
    across_rows<1>(kernel, columns, row, 0, block.columns, step);
  }
  if (full_rows < block.rows.end) {
    const std::int64_t end = std::min(block.columns.end, columns.rest());
    across_rows<1>(kernel, columns, full_rows, 0, {block.columns.begin, end}, step);
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_ACROSS_COLUMNS_INL
