// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sums of integers do not depend on the order of their terms, nor on which rank adds which of them.
// Exact sums are therefore taken in fixed point.
//
// A term v inside its window, |v| < 2^w, is rounded to a whole number of units of 2^(w - 50),
//
//   v + M = M + unit round(v / unit)   with M = 1.5 * 2^(w + 2), whose last place is a unit.
//
// This is one addition, or the fused multiplication and addition that forms v. As M and M + v have
// the same exponent, the difference of their bits is that whole number (as in binned sums: Demmel &
// Nguyen 2013, Fast Reproducible Floating-Point Summation). The difference also shows whether a
// term is outside of its window: then it has more than 51 bits, as it has for an infinity or a NaN.
//
// A term loses half a unit at most, 2^-51 of its window. For f64 the rest, of which a double holds
// 53 bits, is added as well, in finer units of 2^(w - 100). Integers are as large as 2^51: 2^11 of
// them fit in 64 bits. Then their sum is split into halves of 32 bits, which are added in 64 bits
// each and so have room for 2^31 such sums.

#include <bit>
#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn::channels {

inline constexpr int unit_bits = 50;

/// Windows w lie in this range, in which M is a normal number, also that of the finer units. The
/// finer unit of the least window is the smallest double, 2^-1074.
inline constexpr int least_window = -974;
inline constexpr int most_window = 1020;

/// The number of integers that can be added in 64 bits.
inline constexpr std::int64_t addable = std::int64_t{1} << 11;

/// Returns 2^exponent for an exponent from -1074 to 1023, put together from its bits. The product
/// of a number and such a power has the bits of std::ldexp, at a fraction of its time.
SYNCBN_HOST_DEVICE constexpr double power_of_2(int exponent) {
  return std::bit_cast<double>(exponent >= -1022 ? std::int64_t{exponent + 1023} << 52
                                                 : std::int64_t{1} << (exponent + 1074));
}
static_assert(power_of_2(-3) == 0.125 && power_of_2(-1023) == 0x1p-1023);

/// Returns M of a window, 1.5 * 2^(window + 2). It is put together from its bits, which is fast, as
/// it is needed for every plane.
SYNCBN_HOST_DEVICE constexpr double grid(int window) {
  return std::bit_cast<double>((std::int64_t{window + 52 - unit_bits + 1023} << 52) |
                               (std::int64_t{1} << 51));
}
static_assert(grid(5) == 192);

/// M times this is the M of the finer units.
inline constexpr double finer = 0x1p-50;

/// Returns v in units, given sum = M + v and grid = M.
SYNCBN_HOST_DEVICE inline std::int64_t units(double sum, double grid) {
  // The subtraction is unsigned because that of a term outside of its window may overflow.
  return static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(sum) -
                                   std::bit_cast<std::uint64_t>(grid));
}

/// Added to the units of a term that may have either sign, before is_outside() looks at them.
inline constexpr std::int64_t signed_offset = std::int64_t{1} << unit_bits;
/// Tells whether a term was outside of its window, given its units, or for several terms the
/// bitwise or of their units.
SYNCBN_HOST_DEVICE inline bool is_outside(std::int64_t bits) {
  return static_cast<std::uint64_t>(bits) >> (unit_bits + 1) != 0;
}

/// The integer high * 2^32 + low.
struct Integer {
  std::int64_t high = 0;
  std::int64_t low = 0;

  SYNCBN_HOST_DEVICE void add(std::int64_t value) {
    high += value >> 32;
    low += value & 0xFFFFFFFF;
  }
};

/// A sum in units of its window and, for f64, what remains of it in finer units.
struct FixedPointSum {
  Integer coarse;
  Integer fine;
};

/// Names the terms of a channel's two sums, with d = x - K and weights w.
enum class SumsOf : std::uint8_t {
  differences,           ///< d and d^2; if the square is in its window, so is the difference
  weighted_differences,  ///< w d and w d^2
  gradients,             ///< dz and dz (x - mean), and the largest |dz|
};

}  // namespace syncbn::channels
