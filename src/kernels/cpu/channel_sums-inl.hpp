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
#include "kernels/cpu/weights-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

// A Kernel has:
//   Element                         the tensors' element type
//   Channel                         its Coefficients
//   weighted                        whether it wants weights
//   weight                          if so, those of the positions
//   coefficients(c) -> Channel      those of channel c
//   (i, k, weights, extent, sums)   adds the terms of what there is of a step from index i on;
//                                   `weights` are those of the step
//   prefetch(i)                     of a step from index i on

using Sum = hn::Vec<SumTag>;

/// The vectors that a step's terms are added to, of either kind as many as sum_vectors says:
/// several, which hides the latency of additions. By reference, as there are machines whose vectors
/// cannot be members.
struct StepSums {
  Sum &a0, &b0, &a1, &b1, &a2, &b2, &a3, &b3;

  template <int kVector>
  HWY_INLINE void add(std::integral_constant<int, kVector>, Sum a, Sum b, Sum c) const {
    // a and b * c
    if constexpr (kVector == 0) {
      a0 = hn::Add(a0, a);
      b0 = hn::MulAdd(b, c, b0);
    } else if constexpr (kVector == 1) {
      a1 = hn::Add(a1, a);
      b1 = hn::MulAdd(b, c, b1);
    } else if constexpr (kVector == 2) {
      a2 = hn::Add(a2, a);
      b2 = hn::MulAdd(b, c, b2);
    } else {
      a3 = hn::Add(a3, a);
      b3 = hn::MulAdd(b, c, b3);
    }
  }
};

inline std::int64_t sum_lanes() {
  return static_cast<std::int64_t>(hn::Lanes(SumTag()));
}

// In the order of memory. Each channel has a vector for either sum, which is added up across its
// lanes when the block is done.
template <class Kernel>
struct SumsByPlanes {
  using T = typename Kernel::Element;

  const Kernel& kernel;
  const Planes& planes;
  const PartialSums& sums;

  void operator()(const Planes::Block& block) const {
    HWY_ALIGN double first[Planes::max_channels * hn::MaxLanes(SumTag())];
    HWY_ALIGN double second[Planes::max_channels * hn::MaxLanes(SumTag())];
    const std::int64_t lanes = sum_lanes();
    std::fill_n(first, block.channels.size() * lanes, 0.0);
    std::fill_n(second, block.channels.size() * lanes, 0.0);
    for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
      for (std::int64_t c = block.channels.begin; c < block.channels.end; ++c) {
        const Broadcast<typename Kernel::Channel> k(kernel.coefficients(c));
        const std::int64_t begin = planes.index(row, c, block.plane.begin);
        const std::int64_t vector = (c - block.channels.begin) * lanes;
        // Whether there is memory behind this plane, as much as a step reads.
        const bool more = (block.channels.end - c - 1) * planes.extents().plane >= step_of<T>();
        plane(begin, block.plane.size(), row * planes.extents().plane + block.plane.begin, more, k,
              first + vector, second + vector);
      }
    }
    const std::int64_t at = block.channels.begin - planes.channels().begin;
    add_lanes(first, block.channels.size(), sums.first(block.part) + at);
    add_lanes(second, block.channels.size(), sums.second(block.part) + at);
  }

  template <class K>
  HWY_INLINE void plane(std::int64_t i, std::int64_t size, std::int64_t position, bool more,
                        const K& k, double* first, double* second) const {
    const SumTag d;
    Sum a0 = hn::Load(d, first), a1 = hn::Zero(d), a2 = hn::Zero(d), a3 = hn::Zero(d);
    Sum b0 = hn::Load(d, second), b1 = hn::Zero(d), b2 = hn::Zero(d), b3 = hn::Zero(d);
    const StepSums to{a0, b0, a1, b1, a2, b2, a3, b3};
    const float* weights = Kernel::weighted ? kernel.weight + position : nullptr;
    const std::int64_t step = step_of<T>();
    const std::int64_t whole = size / step * step;
    for (std::int64_t s = 0; s < whole; s += step) {
      kernel.prefetch(i + s + prefetch_distance<T>);
      kernel(i + s, k, weights + (Kernel::weighted ? s : 0), Whole{}, to);
    }
    if (whole < size) {
      const float* rest = weights + (Kernel::weighted ? whole : 0);
      if (more) {
        kernel(i + whole, k, rest, Over{size - whole}, to);
      } else {
        kernel(i + whole, k, rest, First{size - whole}, to);
      }
    }
    hn::Store(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), d, first);
    hn::Store(hn::Add(hn::Add(b0, b1), hn::Add(b2, b3)), d, second);
  }

  static void add_lanes(const double* vectors, std::int64_t channels, double* to) {
    const SumTag d;
    for (std::int64_t c = 0; c < channels; ++c) {
      to[c] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, vectors)));
      vectors += sum_lanes();
    }
  }
};

// Each column has its own sums, in the order of place_of.
template <class Kernel>
struct SumsByColumns {
  using T = typename Kernel::Element;
  using Coefficients = Table<T, typename Kernel::Channel>;
  using View = typename Coefficients::View;

  // Rows taken together, to load coefficients and sums once for all of them. Processors do not
  // foresee where the next rows begin, hence the prefetching.
  static constexpr int rows_at_once = Kernel::weighted ? 1 : 4;

  const Kernel& kernel;
  const Columns& columns;
  const PartialSums& sums;
  Coefficients table;

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
    if constexpr (Kernel::weighted) {
      for_weighted_pieces(columns, kernel.weight, row, range,
                          [&](Range piece, const float* of) { line<kRows>(row, piece, of, part); });
    } else {
      line<kRows>(row, range, nullptr, part);
    }
  }

  template <int kRows>
  void line(std::int64_t row, Range range, const float* weights, std::int64_t part) const {
    const std::int64_t begin = columns.index(row, 0);
    const std::int64_t step = step_of<T>();
    double* first = sums.first(part);
    double* second = sums.second(part);
    std::int64_t j = range.begin;
    for (; j + step <= range.end; j += step) {
      add_steps<kRows>(begin + j, View(table, j), weights, Whole{}, first + j, second + j);
      weights += Kernel::weighted ? step : 0;
    }
    if (j < range.end) {
      const First extent{range.end - j};
      add_steps<kRows>(begin + j, View(table, j), weights, extent, first + j, second + j);
    }
  }

  template <int kRows, class Extent>
  HWY_INLINE void add_steps(std::int64_t i, const View& k, const float* weights, Extent extent,
                            double* first, double* second) const {
    const SumTag d;
    constexpr bool four = sum_vectors<T> == 4;
    const std::int64_t lanes = sum_lanes();
    Sum a0 = hn::LoadU(d, first), a1 = hn::LoadU(d, first + lanes), a2 = a0, a3 = a0;
    Sum b0 = hn::LoadU(d, second), b1 = hn::LoadU(d, second + lanes), b2 = b0, b3 = b0;
    if constexpr (four) {
      a2 = hn::LoadU(d, first + 2 * lanes);
      a3 = hn::LoadU(d, first + 3 * lanes);
      b2 = hn::LoadU(d, second + 2 * lanes);
      b3 = hn::LoadU(d, second + 3 * lanes);
    }
    const StepSums to{a0, b0, a1, b1, a2, b2, a3, b3};
    for (int r = 0; r < kRows; ++r) {
      kernel.prefetch(i + (r + kRows) * columns.stride());
      kernel(i + r * columns.stride(), k, weights, extent, to);
    }
    hn::StoreU(a0, d, first);
    hn::StoreU(a1, d, first + lanes);
    hn::StoreU(b0, d, second);
    hn::StoreU(b1, d, second + lanes);
    if constexpr (four) {
      hn::StoreU(a2, d, first + 2 * lanes);
      hn::StoreU(a3, d, first + 3 * lanes);
      hn::StoreU(b2, d, second + 2 * lanes);
      hn::StoreU(b3, d, second + 3 * lanes);
    }
  }
};

/// Adds up the columns of each channel in the order of their numbers.
template <class T>
void fold(const double* sums, const Columns& columns, double* totals) {
  const ChannelRange& channels = columns.channels();
  std::fill(totals + channels.begin, totals + channels.end, 0.0);
  for (std::int64_t j = 0; j < columns.width();) {
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      for (std::int64_t s = 0; s < columns.extents().plane; ++s) {
        totals[c] += sums[place_of<T>(j++)];
      }
    }
  }
}

/// Sums over channels of a tensor like x: first[c] and second[c] are written.
template <class Kernel>
void sum_channels(const ConstTensorView& x, const ChannelRange& channels, const Kernel& kernel,
                  double* first, double* second, Scratch& scratch) {
  scratch.reset();
  const Extents extents = extents_of(x);
  if (extents.size() == 0) {
    std::fill(first + channels.begin, first + channels.end, 0.0);
    std::fill(second + channels.begin, second + channels.end, 0.0);
  } else if (extents.has_long_planes()) {
    const Planes planes(extents, channels);
    const PartialSums sums(planes.parts(), channels.size(), scratch);
    run_blocks(planes, Order::forward, SumsByPlanes<Kernel>{kernel, planes, sums});
    sums.combine();
    std::copy_n(sums.first(0), channels.size(), first + channels.begin);
    std::copy_n(sums.second(0), channels.size(), second + channels.begin);
  } else {
    using Element = typename Kernel::Element;
    const Columns columns(extents, channels);
    const PartialSums sums(columns.parts(), columns.padded_width(), scratch);
    run_blocks(columns, Order::forward,
               SumsByColumns<Kernel>{kernel, columns, sums, {columns, kernel, scratch}});
    sums.combine();
    fold<Element>(sums.first(0), columns, first);
    fold<Element>(sums.second(0), columns, second);
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_CHANNEL_SUMS_INL
