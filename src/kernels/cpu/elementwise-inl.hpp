// SPDX-License-Identifier: Apache-2.0

// Walks over a tensor for kernels that write an element for every element.

#if defined(SYNCBN_KERNELS_CPU_ELEMENTWISE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
#undef SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
#else
#define SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/coefficients-inl.hpp"
#include "kernels/cpu/partition.hpp"
#include "kernels/cpu/run_blocks.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

// A Kernel has:
//   Element                         the tensors' element type
//   Channel                         its Coefficients
//   coefficients(c) -> Channel      those of channel c
//   (i, k, extent)                  computes what there is of a vector's worth from index i on,
//                                   with k.lane<...>(d) as coefficients

/// How many elements from an index on the kernel does at a time.
template <class Kernel>
std::int64_t step() {
  return static_cast<std::int64_t>(hn::Lanes(LaneTag<typename Kernel::Element>()));
}

template <class Kernel>
struct ElementsByPlanes {
  const Kernel& kernel;
  const Planes& planes;

  void operator()(const Planes::Block& block) const {
    for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
      for (std::int64_t c = block.channels.begin; c < block.channels.end; ++c) {
        const Broadcast<typename Kernel::Channel> k(kernel.coefficients(c));
        const std::int64_t begin = planes.index(row, c, block.plane.begin);
        plane(begin, begin + block.plane.size(), k);
      }
    }
  }

  template <class K>
  HWY_INLINE void plane(std::int64_t i, std::int64_t end, const K& k) const {
    const std::int64_t lanes = step<Kernel>();
    for (; i + lanes <= end; i += lanes) {
      kernel(i, k, Whole{});
    }
    if (i < end) {
      kernel(i, k, First{static_cast<std::size_t>(end - i)});
    }
  }
};

template <class Kernel>
struct ElementsByColumns {
  using Coefficients = Table<typename Kernel::Channel>;

  const Kernel& kernel;
  const Columns& columns;
  Coefficients table{columns, kernel};

  void operator()(const Columns::Block& block) const {
    const std::int64_t full_rows = std::min(block.rows.end, columns.full_rows());
    for (std::int64_t row = block.rows.begin; row < full_rows; ++row) {
      line(row, block.columns);
    }
    if (full_rows < block.rows.end) {
      line(full_rows, {block.columns.begin, std::min(block.columns.end, columns.rest())});
    }
  }

  void line(std::int64_t row, Range range) const {
    using View = typename Coefficients::View;
    const std::int64_t begin = row * columns.width();
    const std::int64_t lanes = step<Kernel>();
    std::int64_t j = range.begin;
    for (; j + lanes <= range.end; j += lanes) {
      kernel(begin + j, View(table, j), Whole{});
    }
    if (j < range.end) {
      kernel(begin + j, View(table, j), First{static_cast<std::size_t>(range.end - j)});
    }
  }
};

/// Runs `kernel` over all elements of a tensor like x.
template <class Kernel>
void for_each_element(const ConstTensorView& x, const Kernel& kernel) {
  const Extents extents = extents_of(x);
  if (extents.size() == 0) {
    return;
  }
  if (extents.has_long_planes()) {
    const Planes planes(extents);
    run_blocks(planes, ElementsByPlanes<Kernel>{kernel, planes});
  } else {
    const Columns columns(extents);
    run_blocks(columns, ElementsByColumns<Kernel>{kernel, columns});
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
