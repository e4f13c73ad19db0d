// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two sums per channel: the walk over a tensor. What is done at each step is in
// channel_sums-inl.hpp, for every instruction set, type and kind of terms; this is the same for
// all, and compiled once.

#include <cstdint>

#include "syncbn/tensor_view.hpp"

#include "kernels/cpu/across_columns.hpp"
#include "kernels/cpu/coefficients.hpp"
#include "kernels/cpu/plane_by_plane.hpp"
#include "kernels/kernels.hpp"
#include "kernels/scratch.hpp"

namespace syncbn::kernels::cpu {

struct SumKernel {
  const void* kernel;   ///< what the functions are called with
  const float* weight;  ///< null, or the positions' weights
  VectorOrder order;
  std::int64_t lanes;    ///< in a vector of double
  std::int64_t strands;  ///< best taken together
  std::int64_t rows;     ///< likewise
  /// Adds the terms of strands to a vector of either sum for each of their channels, the first of
  /// which is the c-th that there are coefficients for.
  void (*planes)(const void* kernel, const Strands&, const Coefficients&, std::int64_t c,
                 double* first, double* second);
  /// Adds the terms of some rows to the sums of all columns, in the order of vectors.
  void (*columns)(const void* kernel, const PieceOfRows&, const Coefficients&, double* first,
                  double* second);
  double (*sum_of_lanes)(const double* vector);
};

/// Sums over channels of a tensor like x: first[c] and second[c] are written. There are
/// coefficients for each of the channels.
void sum_channels(const ConstTensorView& x, const ChannelRange& channels, const SumKernel& kernel,
                  const Coefficients& coefficients, double* first, double* second,
                  Scratch& scratch);

}  // namespace syncbn::kernels::cpu
