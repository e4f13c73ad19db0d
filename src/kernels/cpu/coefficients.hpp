// SPDX-License-Identifier: Apache-2.0
#pragma once

// Coefficients are the few numbers of each channel that a kernel computes with beside its elements.

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/partition.hpp"
#include "kernels/scratch.hpp"

namespace syncbn::kernels::cpu {

/// Says in which order the elements of a step lie in vectors: in that of memory, or (interleaved)
/// first those of even index, then those of odd index, which is how pairs of 16 bits unpack
/// fastest.
struct VectorOrder {
  std::int64_t step;  ///< elements in a step
  bool interleaved;

  /// Copies a row of whole steps from the order of memory into that of vectors, interleaved.
  template <class F>
  void to_vectors(const F* row, std::int64_t width, F* to) const {
    for (std::int64_t j = 0; j < width; j += step) {
      for (std::int64_t r = 0; r < step / 2; ++r) {
        to[j + r] = row[j + 2 * r];
        to[j + step / 2 + r] = row[j + 2 * r + 1];
      }
    }
  }
  /// Puts a row of whole steps back into the order of memory, in place. Unless interleaved, the row
  /// stays as it is.
  template <class F>
  void to_memory(F* row, std::int64_t width) const {
    F copy[longest_step];
    for (std::int64_t j = 0; interleaved && j < width; j += step) {
      std::copy_n(row + j, step, copy);
      for (std::int64_t r = 0; r < step / 2; ++r) {
        row[j + 2 * r] = copy[r];
        row[j + 2 * r + 1] = copy[step / 2 + r];
      }
    }
  }
};

/// Some numbers of each channel, or of each column: [count][width] of float or double.
struct Numbers {
  const void* values = nullptr;
  std::int64_t count = 0;
  bool of_double = false;
};

/// All coefficients of a kernel.
struct Coefficients {
  Numbers lane;  ///< what elements are computed with
  Numbers term;  ///< what terms of sums are formed with
  std::int64_t width = 0;
};

/// Copies the coefficients of channels to each of their columns, in the order of vectors.
Coefficients by_columns(const Coefficients& of_channels, const Columns& columns,
                        const VectorOrder& order, Scratch& scratch);

}  // namespace syncbn::kernels::cpu
