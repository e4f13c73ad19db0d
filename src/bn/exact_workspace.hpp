// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bn/exact_count.hpp"
#include "kernels/fixed_point.hpp"

namespace syncbn::bn {

/// Returns where the vectors below hold channel c.
inline std::size_t at(std::int64_t c) {
  return static_cast<std::size_t>(c);
}

/// An ExactWorkspace is the memory that exact sums need besides a Workspace, and what they know of
/// earlier steps.
struct ExactWorkspace {
  std::vector<int> first_window, second_window;       ///< [C] of the pass under way
  std::vector<std::uint8_t> known;                    ///< [C] 1 where the windows are known
  std::vector<kernels::FixedPointSum> first, second;  ///< [C] this rank's sums
  std::vector<double> largest;                        ///< [C] this rank's largest |dz|
  std::vector<std::uint8_t> outside;  ///< [C] 1 where this rank has a term outside of a window
  std::vector<double> first_magnitude, second_magnitude;      ///< [C] this rank's largest terms
  std::vector<double> first_own_special, second_own_special;  ///< [C] this rank's inf and NaN terms
  std::vector<double> first_special, second_special;          ///< [C] sums of the group's, or 0
  std::vector<int> largest_exponent;                 ///< [C] exponent of the group's largest |dz|
  std::vector<int> first_exponent, second_exponent;  ///< [C] exponents of the group's largest terms
  std::vector<std::uint8_t> again;                   ///< [C] 1 where sums are to be taken again
  std::vector<double> var;             ///< [C] expected of the next batch; negative: not known yet
  std::vector<int> gradient_exponent;  ///< [C] exponent of the last backward's largest |dz|
  CountWords count{};                  ///< this rank's weights: their sum and how many are not 0
  double terms = 0;                    ///< the group's elements whose weight is not 0
  bool backward = false;
  bool fine = false;

  explicit ExactWorkspace(std::int64_t channels);
};

}  // namespace syncbn::bn
