// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cpu/aligned_vector.hpp"
#include "kernels/cpu/partition.hpp"

namespace syncbn::kernels::cpu {

/// Two sums for every part of a partition and every column, at first 0.
class PartialSums {
 public:
  PartialSums(std::int64_t parts, std::int64_t columns);

  double* first(std::int64_t part) { return memory_.data() + 2 * part * columns_; }
  double* second(std::int64_t part) { return first(part) + columns_; }

  /// Adds up the parts in the order of their numbers, then the columns of each channel in theirs.
  /// `width` columns are in use; column j is channel (j / plane) % channels.
  void combine(const Extents& extents, std::int64_t width, double* totals_first,
               double* totals_second);

 private:
  std::int64_t parts_;
  std::int64_t columns_;
  AlignedVector<double> memory_;  ///< [parts][2][columns]
};

}  // namespace syncbn::kernels::cpu
