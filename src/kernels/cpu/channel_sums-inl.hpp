// SPDX-License-Identifier: Apache-2.0

// Walks over a tensor for kernels that add up two sums per channel, in double.

#if defined(SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
#undef SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
#else
#define SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/coefficients-inl.hpp"
#include "kernels/cpu/partial_sums.hpp"
#include "kernels/cpu/partition.hpp"
#include "kernels/cpu/run_blocks.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

// A Kernel has:
//   Channel                         its Coefficients
//   coefficients(c) -> Channel      those of channel c
//   (i, k, extent, first, second)   adds the terms of what there is of a SumTag's worth of elements
//                                   from index i on to the vectors first and second
//   prefetch(i)                     of elements from index i on

using Sum = hn::Vec<SumTag>;

inline std::int64_t sum_step() {
  return static_cast<std::int64_t>(hn::Lanes(SumTag()));
}

// In the order of memory. Each channel has a vector for either sum, which is added up across its
// lanes when the block is done.
template <class Kernel>
struct SumsByPlanes {
  const Kernel& kernel;
  const Planes& planes;
  PartialSums& sums;

  void operator()(const Planes::Block& block) const {
    HWY_ALIGN double first[Planes::max_channels * hn::MaxLanes(SumTag())];
    HWY_ALIGN double second[Planes::max_channels * hn::MaxLanes(SumTag())];
    const std::int64_t lanes = sum_step();
    std::fill_n(first, block.channels.size() * lanes, 0.0);
    std::fill_n(second, block.channels.size() * lanes, 0.0);
    for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
      for (std::int64_t c = block.channels.begin; c < block.channels.end; ++c) {
        const Broadcast<typename Kernel::Channel> k(kernel.coefficients(c));
        const std::int64_t begin = planes.index(row, c, block.plane.begin);
        const std::int64_t vector = (c - block.channels.begin) * lanes;
        plane(begin, begin + block.plane.size(), k, first + vector, second + vector);
      }
    }
    add_lanes(first, block.channels, sums.first(block.part));
    add_lanes(second, block.channels, sums.second(block.part));
  }

  // Several independent sums, to hide the latency of additions.
  template <class K>
  HWY_INLINE void plane(std::int64_t i, std::int64_t end, const K& k, double* first,
                        double* second) const {
    const SumTag d;
    const std::int64_t lanes = sum_step();
    Sum a0 = hn::Load(d, first), a1 = hn::Zero(d), a2 = hn::Zero(d), a3 = hn::Zero(d);
    Sum b0 = hn::Load(d, second), b1 = hn::Zero(d), b2 = hn::Zero(d), b3 = hn::Zero(d);
    for (; i + 4 * lanes <= end; i += 4 * lanes) {
      kernel(i, k, Whole{}, a0, b0);
      kernel(i + lanes, k, Whole{}, a1, b1);
      kernel(i + 2 * lanes, k, Whole{}, a2, b2);
      kernel(i + 3 * lanes, k, Whole{}, a3, b3);
    }
    for (; i + lanes <= end; i += lanes) {
      kernel(i, k, Whole{}, a0, b0);
    }
    if (i < end) {
      kernel(i, k, First{static_cast<std::size_t>(end - i)}, a1, b1);
    }
    hn::Store(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), d, first);
    hn::Store(hn::Add(hn::Add(b0, b1), hn::Add(b2, b3)), d, second);
  }

  static void add_lanes(const double* vectors, Range channels, double* to) {
    const SumTag d;
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      to[c] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, vectors)));
      vectors += sum_step();
    }
  }
};

// Each column has its own sums.
template <class Kernel>
struct SumsByColumns {
  using Coefficients = Table<typename Kernel::Channel>;
  using View = typename Coefficients::View;

  // Rows taken together, to load coefficients and sums once for all of them. Processors do not
  // foresee where the next rows begin, hence the prefetching.
  static constexpr int rows_at_once = 4;

  const Kernel& kernel;
  const Columns& columns;
  PartialSums& sums;
  Coefficients table{columns, kernel};

  void operator()(const Columns::Block& block) const {
    const std::int64_t full_rows = std::min(block.rows.end, columns.full_rows());
    std::int64_t row = block.rows.begin;
    for (; row + rows_at_once <= full_rows; row += rows_at_once) {
      lines<rows_at_once>(row, block.columns, block.part);
    }
    for (; row < full_rows; ++row) {
      lines<1>(row, block.columns, block.part);
    }
    if (row < block.rows.end) {
      const std::int64_t end = std::min(block.columns.end, columns.rest());
      lines<1>(row, {block.columns.begin, end}, block.part);
    }
  }

  template <int kRows>
  void lines(std::int64_t row, Range range, std::int64_t part) const {
    const std::int64_t begin = row * columns.width();
    const std::int64_t lanes = sum_step();
    double* first = sums.first(part);
    double* second = sums.second(part);
    std::int64_t j = range.begin;
    for (; j + lanes <= range.end; j += lanes) {
      add_vectors<kRows>(begin + j, View(table, j), Whole{}, first + j, second + j);
    }
    if (j < range.end) {
      const First extent{static_cast<std::size_t>(range.end - j)};
      add_vectors<kRows>(begin + j, View(table, j), extent, first + j, second + j);
    }
  }

  template <int kRows, class Extent>
  HWY_INLINE void add_vectors(std::int64_t i, const View& k, Extent extent, double* first,
                              double* second) const {
    const SumTag d;
    Sum a = hn::LoadU(d, first);
    Sum b = hn::LoadU(d, second);
    for (int r = 0; r < kRows; ++r) {
      kernel.prefetch(i + (r + kRows) * columns.width());
      kernel(i + r * columns.width(), k, extent, a, b);
    }
    hn::StoreU(a, d, first);
    hn::StoreU(b, d, second);
  }
};

/// Sums over a tensor like x: first[c] and second[c] are written for all its channels.
template <class Kernel>
void sum_channels(const ConstTensorView& x, const Kernel& kernel, double* first, double* second) {
  const Extents extents = extents_of(x);
  if (extents.size() == 0) {
    std::fill_n(first, extents.channels, 0.0);
    std::fill_n(second, extents.channels, 0.0);
  } else if (extents.has_long_planes()) {
    const Planes planes(extents);
    PartialSums sums(planes.parts(), extents.channels);
    run_blocks(planes, SumsByPlanes<Kernel>{kernel, planes, sums});
    sums.combine({1, extents.channels, 1}, extents.channels, first, second);
  } else {
    const Columns columns(extents);
    PartialSums sums(columns.parts(), columns.padded_width());
    run_blocks(columns, SumsByColumns<Kernel>{kernel, columns, sums});
    sums.combine(extents, columns.width(), first, second);
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
