// SPDX-License-Identifier: Apache-2.0
#pragma once

// Kernels that write an element for every element: the walk over a tensor. What is done at each
// step is in elementwise-inl.hpp, for every instruction set, type and kind of kernel; this is the
// same for all, and compiled once.

#include <array>
#include <cstddef>
#include <cstdint>

#include "syncbn/tensor_view.hpp"

#include "kernels/cpu/coefficients.hpp"
#include "kernels/cpu/stage.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::kernels::cpu {

/// Where a kernel writes; the second is null where there is nothing to write.
using Destinations = std::array<std::byte*, 2>;

/// Elements that follow each other in memory.
struct ElementRun {
  std::int64_t i;  ///< index of the first one in the tensors that are read
  Destinations to;
  std::int64_t size;
  std::int64_t behind;    ///< further elements that can be read, and written at `to`
  bool stream;            ///< past the cache: then `to` is aligned to a vector
  std::int64_t distance;  ///< how far ahead memory is asked for
  const float* weights;   ///< null, or those of the positions
};

struct ElementwiseKernel {
  const void* kernel;   ///< what the functions are called with
  const float* weight;  ///< null, or the positions' weights
  Destinations out;
  bool in_place;        ///< one of them is also read
  std::size_t element;  ///< its size in bytes
  VectorOrder order;
  LineCopy lines;
  std::int64_t prefetch_distance;
  /// Writes planes of channels, the first of which is the c-th that there are coefficients for. The
  /// run is the first plane, the others follow. Where `over`, the last step of a plane may go
  /// beyond its end if another step is behind it.
  void (*planes)(const void* kernel, const ElementRun&, std::int64_t count, bool over,
                 const Coefficients&, std::int64_t c);
  /// Writes columns of a row, from `column` on.
  void (*columns)(const void* kernel, const ElementRun&, const Coefficients&, std::int64_t column);
};

/// Runs `kernel` over all elements of some channels of a tensor like x. The end of it comes first:
/// it was summed last, and is used before it is gone from the cache. There are coefficients for
/// each of the channels.
void for_each_element(const ConstTensorView& x, const ChannelRange& channels,
                      const ElementwiseKernel& kernel, const Coefficients& coefficients,
                      const Run& run);

}  // namespace syncbn::kernels::cpu
