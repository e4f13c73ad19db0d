// SPDX-License-Identifier: Apache-2.0
#pragma once

// Walks over a tensor for two sums per channel. What is done at each step is in
// channel_sums-inl.hpp, compiled for every instruction set, type and kind of terms; the walk is the
// same for all, and compiled once.

#include <cstdint>

#include "syncbn/tensor_view.hpp"

#include "kernels/cpu/across_columns.hpp"
#include "kernels/cpu/coefficients.hpp"
#include "kernels/cpu/plane_by_plane.hpp"
#include "kernels/kernels.hpp"
#include "kernels/scratch.hpp"

namespace syncbn::kernels::cpu {

/// What a walk needs to know of a kernel, and the functions that it calls.
struct SumKernel {
  const void* kernel;   ///< passed to the functions
  const float* weight;  ///< null, or the positions' weights
  VectorOrder order;
  std::int64_t lanes;    ///< doubles in a vector
  std::int64_t strands;  ///< how many strands are best taken together
  std::int64_t rows;     ///< how many rows are best taken together
  /// Adds the terms of strands to one vector of each sum per channel. The strands' first channel is
  /// the c-th that there are coefficients for.
  void (*planes)(const void* kernel, const Strands&, const Coefficients&, std::int64_t c,
                 double* first, double* second);
  /// Adds the terms of some rows to the sums of all columns, which lie in the order of vectors.
  void (*columns)(const void* kernel, const PieceOfRows&, const Coefficients&, double* first,
                  double* second);
  double (*sum_of_lanes)(const double* vector);
};

/// Writes the sums first[c] and second[c] of a range of channels of a tensor with x's shape and
/// layout. There are coefficients for each of the channels.
void sum_channels(const ConstTensorView& x, const ChannelRange& channels, const SumKernel& kernel,
                  const Coefficients& coefficients, double* first, double* second,
                  Scratch& scratch);

}  // namespace syncbn::kernels::cpu
