// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <concepts>
#include <limits>

#include "syncbn/error.hpp"

namespace syncbn::comm {

/// Returns the integer that a summed double holds. Throws CommError if it holds none of this type:
/// an all-reduce that is not ours may leave anything, and to convert that would be undefined.
template <std::integral Integer>
Integer whole_number(double value) {
  constexpr double least = static_cast<double>(std::numeric_limits<Integer>::min());
  const double beyond = std::ldexp(1.0, std::numeric_limits<Integer>::digits);
  if (!(value >= least && value < beyond && value == std::trunc(value))) {
    throw CommError("the all-reduce did not add up the ranks' messages");
  }
  return static_cast<Integer>(value);
}

}  // namespace syncbn::comm
