// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/scratch.hpp"

namespace syncbn::kernels::cpu {

/// Holds two sums for every part of a partition and every column; they begin with 0.
class PartialSums {
 public:
  PartialSums(std::int64_t parts, std::int64_t columns, Scratch& scratch);

  double* first(std::int64_t part) const { return memory_ + 2 * part * columns_; }
  double* second(std::int64_t part) const { return first(part) + columns_; }

  /// Adds the sums of all parts, in the order of their numbers, to those of part 0.
  void combine() const;

 private:
  std::int64_t parts_;
  std::int64_t columns_;
  double* memory_;  ///< [parts][2][columns]
};

}  // namespace syncbn::kernels::cpu
