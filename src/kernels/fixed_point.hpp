// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sums that do not depend on the order of their terms, nor on who adds which of them: of integers.
//
// A term v inside its window, |v| < 2^w, is rounded to a whole number of units of 2^(w - 50),
//
//   v + M = M + unit round(v / unit)   with M = 1.5 * 2^(w + 2), whose last place is a unit,
//
// one addition, or the fused multiplication and addition that forms v. As M and M + v have the same
// exponent, the difference of their bits is that whole number (the way of binned sums: Demmel &
// Nguyen 2013, Fast Reproducible Floating-Point Summation). Whether a term is outside of its window
// shows in the same difference: it has more than 51 bits, as has that of an infinity or a NaN.
//
// A term loses half a unit at most, 2^-51 of its window. f64 takes the rest, of which double holds
// 53 bits, in finer units of 2^(w - 100) besides. Integers are as large as 2^51: 2^11 of them fit
// in 64 bits, after which they are split into halves of 32 bits, which have room for 2^31 more.

#include <bit>
#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn::kernels {

inline constexpr int unit_bits = 50;

/// Windows lie in this range, where M is a normal number, as is that of the finer units. The least
/// one's finer unit is the smallest number there is, 2^-1074.
inline constexpr int least_window = -974;
inline constexpr int most_window = 1020;

/// Integers that can be added in 64 bits.
inline constexpr std::int64_t addable = std::int64_t{1} << 11;

/// M of a window: 1.5 * 2^(window + 2), put together from its bits, as it is wanted for every
/// plane.
SYNCBN_HOST_DEVICE constexpr double grid(int window) {
  return std::bit_cast<double>((std::int64_t{window + 52 - unit_bits + 1023} << 52) |
                               (std::int64_t{1} << 51));
}
static_assert(grid(5) == 192);

/// From M to that of the finer units.
inline constexpr double finer = 0x1p-50;

/// In units, from M and M + v.
SYNCBN_HOST_DEVICE inline std::int64_t units(double sum, double grid) {
  // Unsigned, as what was outside may wrap around.
  return static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(sum) -
                                   std::bit_cast<std::uint64_t>(grid));
}

/// Whether bits that one of the differences has say that it was outside of its window. Of terms of
/// either sign, `offset` is added first.
inline constexpr std::int64_t signed_offset = std::int64_t{1} << unit_bits;
SYNCBN_HOST_DEVICE inline bool is_outside(std::int64_t bits) {
  return static_cast<std::uint64_t>(bits) >> (unit_bits + 1) != 0;
}

/// high * 2^32 + low
struct Integer {
  std::int64_t high = 0;
  std::int64_t low = 0;

  SYNCBN_HOST_DEVICE void add(std::int64_t value) {
    high += value >> 32;
    low += value & 0xFFFFFFFF;
  }
};

/// A sum in units of its window, and of f64 what remains in finer ones.
struct FixedPointSum {
  Integer coarse;
  Integer fine;
};

/// What the two sums of a channel are of, with d = x - K and weights w.
enum class SumsOf : std::uint8_t {
  differences,           ///< d and d^2: where the square is in its window, so is the difference
  weighted_differences,  ///< w d and w d^2
  gradients,             ///< dz and dz (x - mean), and the largest |dz|
};

/// How the two sums of a channel are taken in fixed point, and where they go. Arrays are [C].
struct FixedPoint {
  const int* first_window;  ///< of the terms of either sum
  const int* second_window;
  FixedPointSum* first;   ///< written
  FixedPointSum* second;  ///< written
  double* largest;        ///< written by a backward: the largest magnitude of a first term
  std::uint8_t* outside;  ///< written: 1 if a term was outside of its window; then the others mean
                          ///< nothing
};

/// What windows must hold. Arrays are [C] and written; they do not depend on the order of terms.
struct Magnitudes {
  double* first;           ///< the largest of a first term; means nothing if one is not finite
  double* second;          ///< likewise
  double* first_special;   ///< the sum of those first terms that are not finite; 0 if all are
  double* second_special;  ///< likewise
};

}  // namespace syncbn::kernels
