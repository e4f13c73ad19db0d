// SPDX-License-Identifier: Apache-2.0
#pragma once

// What exact sums decide about a channel by itself, from values that all ranks have alike. The same
// on the host and in a kernel: bn/exact_sums.hpp says what it is for.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"

#include "kernels/fixed_point.hpp"
#include "kernels/statistics.hpp"

namespace syncbn::kernels {

/// Of what is 0, or not known yet.
inline constexpr int no_exponent = -100000;

/// As frexp gives it.
SYNCBN_HOST_DEVICE inline int exponent_of(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return exponent;
}

// --- windows -----------------------------------------------------------------------------------

struct Windows {
  int first;   ///< of the terms of either sum
  int second;  ///< means nothing, as the other, if they are not known
  bool known;
};

SYNCBN_HOST_DEVICE inline int in_range(int window) {
  return window < least_window ? least_window : window > most_window ? most_window : window;
}

/// A forward's, for a variance about the pivot like this; negative if there is none. Where the
/// square of a difference is in the second window, the difference is in the first: kernels look at
/// squares alone.
SYNCBN_HOST_DEVICE inline Windows forward_windows(double var, double eps, double pivot) {
  constexpr int deviations = 8;  // that a window holds, as a power of 2
  // A float may be that far from the mean.
  const double rounding = 0x1p-22 * std::fabs(pivot);
  const double spread = std::ldexp(std::sqrt(var + eps), deviations);
  const double width = spread < rounding ? rounding : spread;
  if (!(var >= 0 && std::isfinite(width) && width > 0)) {
    return {0, 0, false};
  }
  const int fit = exponent_of(width);
  const int exponent = fit < least_window / 2 ? least_window / 2 : fit;
  return {in_range(exponent), in_range(2 * exponent), true};
}

/// A backward's. `gradient_exponent`: of the last one's largest |dz|.
SYNCBN_HOST_DEVICE inline Windows backward_windows(int gradient_exponent, double mean,
                                                   double invstd) {
  constexpr int gradients = 6;  // largest ones of the last step that a window holds, likewise
  // A product of dz and x - mean is rarely as large as both factors' largest.
  constexpr int deviations_of_products = 4;
  const double deviation = invstd > 0 ? 1 / invstd : std::fabs(0x1p-24 * mean);
  if (gradient_exponent == no_exponent || !std::isfinite(deviation)) {
    return {0, 0, false};
  }
  const int window = gradient_exponent + gradients;
  return {in_range(window), in_range(window + exponent_of(deviation) + deviations_of_products),
          true};
}

/// For largest terms of this exponent: one more, as room for a term that is rounded up, or
/// otherwise than magnitudes.
SYNCBN_HOST_DEVICE inline int fitted_window(int exponent) {
  return exponent == no_exponent ? 0 : in_range(exponent + 1);
}
SYNCBN_HOST_DEVICE inline bool is_too_large_to_count(int exponent) {
  return exponent >= most_window;
}

/// These are a forward's sums of a channel, over the group.
struct ForwardTotals {
  double sum;
  double sum_sq;
  double count;  ///< the sum of the weights
  double terms;  ///< how many weights are not 0
};

/// Units make a mean and a variance wrong by at most these.
struct ErrorsOfUnits {
  double mean;
  double var;
};

/// Follows the derivation in bn/exact_sums.hpp. A term is off by half a unit whatever its weight,
/// and so a sum by as many halves as it has terms.
SYNCBN_HOST_DEVICE inline ErrorsOfUnits errors_of_units(const ForwardTotals& of,
                                                        const Windows& windows, int bits) {
  const double half_units = of.terms / of.count / 2;
  const double mean = half_units * std::ldexp(1.0, windows.first - bits);
  const double squares = half_units * std::ldexp(1.0, windows.second - bits);
  return {mean, squares + mean * (2 * std::fabs(of.sum / of.count) + mean)};
}

/// Gives the mean as a pivot of exact sums; `fine`: of f64.
SYNCBN_HOST_DEVICE inline double to_exact_pivot(double mean, bool fine) {
  return to_pivot(mean, fine ? DType::f64 : DType::f32);
}

/// Gives the pivot nearest to the mean that sums about `pivot` say is so far off: 0 where that mean
/// is less than what x - pivot has lost of it.
SYNCBN_HOST_DEVICE inline double nearest_pivot(double offset, double pivot, bool fine) {
  const double mean = pivot + offset;
  return std::fabs(mean) < 0x1p-48 * std::fabs(offset) ? 0 : to_exact_pivot(mean, fine);
}

/// Tells whether that pivot is much nearer to the mean than this one is.
SYNCBN_HOST_DEVICE inline bool another_pivot_is_nearer(double offset, double pivot, bool fine) {
  const double nearest = nearest_pivot(offset, pivot, fine);
  return nearest != pivot && 2 * std::fabs(pivot + offset - nearest) < std::fabs(offset);
}

/// Tells whether a forward's sums, of terms inside these windows, are too coarse for the mean and
/// the variance and would be finer in others. `fitted`: the windows are those of the largest terms,
/// which become smaller only about another pivot.
SYNCBN_HOST_DEVICE inline bool is_too_coarse(const ForwardTotals& of, const Windows& windows,
                                             double pivot, double eps, bool fine, bool fitted) {
  if (!(of.count > 0)) {
    return false;
  }
  const double offset = of.sum / of.count;
  const bool another_is_nearer = another_pivot_is_nearer(offset, pivot, fine);
  if (fitted && !another_is_nearer) {
    return false;
  }
  const ErrorsOfUnits errors = errors_of_units(of, windows, fine ? 2 * unit_bits : unit_bits);
  const double error = errors.var + (another_is_nearer ? 0x1p-49 * offset * offset : 0);
  const double tolerance = fine ? 0x1p-47 : 0x1p-25;
  const double total = statistics_of(of.sum, of.sum_sq, of.count, pivot).var + eps;
  return !(error <= tolerance * total && errors.mean <= tolerance * std::sqrt(total));
}

/// Whether a backward's window holds gradients that are much larger than the largest.
SYNCBN_HOST_DEVICE inline bool is_too_wide(int window, int largest_exponent) {
  constexpr int widest = 16;
  return largest_exponent != no_exponent && window - largest_exponent > widest;
}

// --- integers ----------------------------------------------------------------------------------

/// With the halves in order.
SYNCBN_HOST_DEVICE inline Integer carried(Integer value) {
  value.high += value.low >> 32;
  value.low &= 0xFFFFFFFF;
  return value;
}

/// A sum whose halves are integers, in units of 2^(window - bits).
SYNCBN_HOST_DEVICE inline double in_units(double high, double low, int window, int bits) {
  return std::ldexp(std::fma(high, 0x1p32, low), window - bits);
}
SYNCBN_HOST_DEVICE inline double in_units(Integer value, int window, int bits) {
  value = carried(value);
  return in_units(static_cast<double>(value.high), static_cast<double>(value.low), window, bits);
}

/// A sum in units of its window.
SYNCBN_HOST_DEVICE inline double value_of(const FixedPointSum& sum, int window) {
  return in_units(sum.coarse, window, unit_bits) + in_units(sum.fine, window, 2 * unit_bits);
}

// --- a maximum by addition ---------------------------------------------------------------------

// A rank adds B^digit, B a power of 2. The sum, whatever its rounding, is at least B^max and below
// B^(max + 1) for fewer than B ranks.

/// How digits from 1 to `count` become doubles; the middle one becomes 1, and 0, for none, 0.
struct Digits {
  int bits;  ///< of B
  int count;

  SYNCBN_HOST_DEVICE double power(int digit) const {
    return digit == 0 ? 0 : std::ldexp(1.0, bits * (digit - count / 2));
  }
  /// Of a sum of powers.
  SYNCBN_HOST_DEVICE int largest(double sum) const {
    return sum > 0 ? (exponent_of(sum) - 1 + bits * (count / 2)) / bits : 0;
  }
};

/// Exponents of doubles, numbered from 1 on; 0 for no term other than 0.
inline constexpr int least_exponent = -1100;
inline constexpr int most_exponent = 1024;
SYNCBN_HOST_DEVICE inline int exponent_number(double magnitude) {
  return magnitude > 0 && std::isfinite(magnitude) ? exponent_of(magnitude) - least_exponent : 0;
}

// A backward's largest |dz|, by the exponent's distance from the window, which holds it.
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

/// Which NaN it is depends on the order of terms.
SYNCBN_HOST_DEVICE inline double canonical(double special) {
  return std::isnan(special) ? std::numeric_limits<double>::quiet_NaN() : special;
}

}  // namespace syncbn::kernels
