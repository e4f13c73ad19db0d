// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bn/exact_count.hpp"
#include "kernels/fixed_point.hpp"

namespace syncbn::bn {

/// Where the vectors below hold channel c.
inline std::size_t at(std::int64_t c) {
  return static_cast<std::size_t>(c);
}

/// What the mode needs besides a Workspace.
struct ExactWorkspace {
  std::vector<int> first_window, second_window;               ///< [C] of the pass under way
  std::vector<std::uint8_t> known;                            ///< [C] whether there are any
  std::vector<kernels::FixedPointSum> first, second;          ///< [C] of this rank
  std::vector<double> largest;                                ///< [C] likewise
  std::vector<std::uint8_t> outside;                          ///< [C] likewise
  std::vector<double> first_magnitude, second_magnitude;      ///< [C] likewise
  std::vector<double> first_own_special, second_own_special;  ///< [C] likewise
  std::vector<double> first_special, second_special;          ///< [C] of the group
  std::vector<int> largest_exponent;                          ///< [C] of the group
  std::vector<int> first_exponent, second_exponent;           ///< [C] likewise
  std::vector<std::uint8_t> again;                            ///< [C] to be taken again
  std::vector<double> var;             ///< [C] of the last batch; negative: none yet
  std::vector<int> gradient_exponent;  ///< [C] of the last backward's largest |dz|
  CountWords count{};                  ///< of this rank
  double terms = 0;                    ///< of the group: elements whose weight is not 0
  bool backward = false;
  bool fine = false;

  explicit ExactWorkspace(std::int64_t channels);
};

}  // namespace syncbn::bn
