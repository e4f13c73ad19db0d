// SPDX-License-Identifier: Apache-2.0

// The walk plane by plane, in the order of memory but for strands, for kernels that add up what
// there is in each channel.

#if defined(SYNCBN_KERNELS_CPU_PLANE_BY_PLANE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_PLANE_BY_PLANE_INL
#undef SYNCBN_KERNELS_CPU_PLANE_BY_PLANE_INL
#else
#define SYNCBN_KERNELS_CPU_PLANE_BY_PLANE_INL
#endif

#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/coefficients-inl.hpp"
#include "kernels/cpu/partition.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

// One stream of loads does not keep memory busy: the processor's prefetching stops at the end of
// every page. The walk therefore advances at several places of a block by turns.

/// kStrands runs of elements of a channel.
template <int kStrands>
struct Strands {
  std::int64_t i;      ///< index of the first one's first element
  std::int64_t apart;  ///< from one to the next
  std::int64_t size;   ///< of each
  const float* weights;
  std::int64_t weights_apart;
  bool more;  ///< there is memory behind each, as much as a step reads
};

/// Calls body(i, weights, more, k, c) for every plane of the block in these rows: it begins at
/// index i, k are the coefficients of its channel, the block's c-th.
template <class Kernel, class Body>
HWY_INLINE void for_planes(const Kernel& kernel, const Planes& planes, const Planes::Block& block,
                           Range rows, Body body) {
  const std::int64_t plane = planes.extents().plane;
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    const float* weights =
        Kernel::weighted ? kernel.weight + row * plane + block.plane.begin : nullptr;
    for (std::int64_t c = block.channels.begin; c < block.channels.end; ++c) {
      const Broadcast<typename Kernel::Channel> k(kernel.coefficients(c));
      const bool more = (block.channels.end - c - 1) * plane >= step_of<typename Kernel::Element>();
      body(planes.index(row, c, block.plane.begin), weights, more, k, c - block.channels.begin);
    }
  }
}

/// Calls run(strands, k, c) for all of the block in kStrands strands as far as possible, and for
/// what remains in one: k has the coefficients of their channel, the block's c-th.
template <int kStrands, class Kernel, class Run>
HWY_INLINE void plane_by_plane(const Kernel& kernel, const Planes& planes,
                               const Planes::Block& block, Run run) {
  const std::int64_t step = step_of<typename Kernel::Element>();
  const std::int64_t plane = planes.extents().plane;
  const std::int64_t size = block.plane.size();
  // Strands share out the rows evenly, and those that remain each plane.
  const std::int64_t rows = block.rows.size() / kStrands;
  const std::int64_t piece = size / (kStrands * step) * step;
  for_planes(
      kernel, planes, block, {block.rows.begin, block.rows.begin + rows},
      [&](std::int64_t i, const float* weights, bool more, const auto& k, std::int64_t c) HWY_ATTR {
        run(Strands<kStrands>{i, planes.index(rows, 0, 0), size, weights, rows * plane, more}, k,
            c);
      });
  for_planes(
      kernel, planes, block, {block.rows.begin + kStrands * rows, block.rows.end},
      [&](std::int64_t i, const float* weights, bool more, const auto& k, std::int64_t c) HWY_ATTR {
        const std::int64_t rest = kStrands * piece;
        run(Strands<kStrands>{i, piece, piece, weights, piece, true}, k, c);
        run(Strands<1>{i + rest, 0, size - rest, weights + (Kernel::weighted ? rest : 0), 0, more},
            k, c);
      });
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_PLANE_BY_PLANE_INL
