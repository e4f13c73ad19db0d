// SPDX-License-Identifier: Apache-2.0
#pragma once

// Exponents tell how large the terms of a sum are. The largest exponent of all ranks is found with
// an all-reduce that only adds.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"

#include "channels/fixed_point.hpp"

namespace syncbn::channels {

/// Stands for the exponent of 0, or of a value that is not known yet.
inline constexpr int no_exponent = -100000;

/// Returns the exponent e of std::frexp: 2^(e - 1) <= |value| < 2^e.
SYNCBN_HOST_DEVICE inline int exponent_of(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return exponent;
}

// An all-reduce that adds finds a maximum over ranks as follows. Each rank adds B^digit, where B is
// a power of 2. Whatever its rounding, the sum is at least B^max and, for fewer than B ranks, below
// B^(max + 1).

/// Turns digits from 1 to `count` into powers of B, and a sum of such powers into the largest
/// digit. The digit in the middle becomes B^0 = 1; digit 0 stands for no value and becomes 0.
struct Digits {
  int bits;  ///< log2(B)
  int count;

  SYNCBN_HOST_DEVICE double power(int digit) const {
    return digit == 0 ? 0 : power_of_2(bits * (digit - count / 2));
  }
  /// Returns the largest digit in a sum of powers, 0 if there was none.
  SYNCBN_HOST_DEVICE int largest(double sum) const {
    return sum > 0 ? (exponent_of(sum) - 1 + bits * (count / 2)) / bits : 0;
  }
};

/// Exponents of doubles are numbered from 1 on. Number 0 stands for a magnitude that is 0 or not
/// finite.
inline constexpr int least_exponent = -1100;
inline constexpr int most_exponent = 1024;
SYNCBN_HOST_DEVICE inline int exponent_number(double magnitude) {
  return magnitude > 0 && std::isfinite(magnitude) ? exponent_of(magnitude) - least_exponent : 0;
}

// A backward's largest |dz| travels as a digit. The window holds it, so its exponent is at most the
// window w, which is digit `largest_steps`; each digit less is an exponent less, down to digit 1.
inline constexpr int largest_steps = unit_bits + 1;
SYNCBN_HOST_DEVICE constexpr Digits largest_digits() {
  return {20, largest_steps};
}
SYNCBN_HOST_DEVICE inline double largest_to_power(double largest, int window) {
  const int digit = largest_steps - window + exponent_of(largest);
  return largest_digits().power(!(largest > 0) ? 0 : digit < 1 ? 1 : digit);
}
SYNCBN_HOST_DEVICE inline int largest_exponent(double powers, int window) {
  const int digit = largest_digits().largest(powers);
  return digit == 0 ? no_exponent : window + digit - largest_steps;
}

/// Says how a largest exponent travels: in `words` doubles, each for digits.count of the possible
/// exponents.
struct ExponentCode {
  Digits digits;
  int words;

  SYNCBN_HOST_DEVICE std::int64_t message_words(std::int64_t channels) const {
    return channels * 2 * (words + 1);
  }
};
/// Returns the code for so many ranks, which are fewer than 2^20.
inline ExponentCode exponent_code(int ranks) {
  // Powers, and the sum of one power from each rank, stay normal numbers.
  constexpr int exponents_of_powers = 1960;
  const int bits = static_cast<int>(std::bit_width(static_cast<unsigned>(ranks)));
  const Digits digits{bits, exponents_of_powers / bits};
  constexpr int numbers = most_exponent - least_exponent;
  return {digits, (numbers + digits.count - 1) / digits.count};
}

/// Returns the same NaN for every NaN, because which one a sum gives depends on the order of terms.
SYNCBN_HOST_DEVICE inline double canonical(double special) {
  return std::isnan(special) ? std::numeric_limits<double>::quiet_NaN() : special;
}

}  // namespace syncbn::channels
