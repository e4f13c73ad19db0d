// SPDX-License-Identifier: Apache-2.0

// Weights of positions, as vectors of a step. Where a walk goes across channels, a row's weights
// are first laid out as its columns are.

#if defined(SYNCBN_KERNELS_CPU_WEIGHTS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_WEIGHTS_INL
#undef SYNCBN_KERNELS_CPU_WEIGHTS_INL
#else
#define SYNCBN_KERNELS_CPU_WEIGHTS_INL
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <hwy/highway.h>

#include "kernels/cpu/elements-inl.hpp"
#include "kernels/cpu/partition.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// Those of a step's elements of type T. Of elements that are not there, 0.
template <class T, class D>
HWY_INLINE void load_weights(D d, const float* from, Whole, hn::Vec<D>& a, hn::Vec<D>& b) {
  const hn::Rebind<float, D> df;
  const auto low = hn::LoadU(df, from);
  const auto high = hn::LoadU(df, from + hn::Lanes(df));
  if constexpr (std::is_same_v<T, double>) {
    a = hn::PromoteTo(d, low);
    b = hn::PromoteTo(d, high);
#if HWY_TARGET != HWY_SCALAR
  } else if constexpr (interleaved<T>) {
    a = hn::ConcatEven(d, high, low);
    b = hn::ConcatOdd(d, high, low);
#endif
  } else {
    a = low;
    b = high;
  }
}
template <class T, class D, class Extent>
HWY_INLINE void load_weights(D d, const float* from, Extent extent, hn::Vec<D>& a, hn::Vec<D>& b) {
  HWY_ALIGN float buffer[max_step<T>] = {};
  std::memcpy(buffer, from, static_cast<std::size_t>(extent.count) * sizeof(float));
  load_weights<T>(d, buffer, Whole{}, a, b);
}

/// Columns whose weights are laid out at a time.
inline constexpr std::int64_t weighted_columns = 1024;

/// to[j - range.begin] becomes the weight of column j, with zeros up to the next whole step.
inline void lay_out_weights(const Columns& columns, const float* weight, std::int64_t row,
                            Range range, float* to) {
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
  std::fill_n(to, max_step<float>, 0.0F);
}

/// Room for them.
struct WeightsOfColumns {
  HWY_ALIGN float values[weighted_columns + max_step<float>];
};

/// Calls body(piece, weights) for pieces of a row's columns, with their weights.
template <class Body>
void for_weighted_pieces(const Columns& columns, const float* weight, std::int64_t row, Range range,
                         Body body) {
  WeightsOfColumns weights;
  for (std::int64_t begin = range.begin; begin < range.end; begin += weighted_columns) {
    const Range piece{begin, std::min(begin + weighted_columns, range.end)};
    lay_out_weights(columns, weight, row, piece, weights.values);
    body(piece, static_cast<const float*>(weights.values));
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_WEIGHTS_INL
