// SPDX-License-Identifier: Apache-2.0
#pragma once

// Walks over a tensor for kernels that write an element for every element. What is done at each
// step is in elementwise-inl.hpp, compiled for every instruction set, type and kind of kernel; the
// walk is the same for all, and compiled once.

#include <array>
#include <cstddef>
#include <cstdint>

#include "syncbn/tensor_view.hpp"

#include "kernels/cpu/coefficients.hpp"
#include "kernels/cpu/stage.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::kernels::cpu {

/// Where a kernel writes. The second is null if the kernel writes one tensor only.
using Destinations = std::array<std::byte*, 2>;

/// A run of elements that follow each other in memory.
struct ElementRun {
  std::int64_t i;  ///< index of the first element in the tensors that are read
  Destinations to;
  std::int64_t size;
  std::int64_t behind;    ///< how many further elements can be read, and written at `to`
  bool stream;            ///< write past the cache; then `to` is aligned to a vector
  std::int64_t distance;  ///< how many elements ahead memory is prefetched
  const float* weights;   ///< null, or the positions' weights
};

/// What a walk needs to know of a kernel, and the functions that it calls.
struct ElementwiseKernel {
  const void* kernel;   ///< passed to the functions
  const float* weight;  ///< null, or the positions' weights
  Destinations out;
  bool in_place;        ///< whether one of the destinations is also read
  std::size_t element;  ///< bytes of an element
  VectorOrder order;
  LineCopy lines;
  std::int64_t prefetch_distance;
  /// Writes `count` planes of as many channels, the first of which is the c-th that there are
  /// coefficients for. The run is the first plane, and the others follow it. If `over`, the last
  /// step of a plane may go beyond its end as long as `behind` leaves room for a step.
  void (*planes)(const void* kernel, const ElementRun&, std::int64_t count, bool over,
                 const Coefficients&, std::int64_t c);
  /// Writes columns of a row, from `column` on.
  void (*columns)(const void* kernel, const ElementRun&, const Coefficients&, std::int64_t column);
};

/// Runs `kernel` over all elements of a range of channels of a tensor with x's shape and layout.
/// Each thread takes the end of its part first, which was summed last and may still be in the
/// cache. There are coefficients for each of the channels.
void for_each_element(const ConstTensorView& x, const ChannelRange& channels,
                      const ElementwiseKernel& kernel, const Coefficients& coefficients,
                      const Run& run);

}  // namespace syncbn::kernels::cpu
