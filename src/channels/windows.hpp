// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions decide, for one channel at a time, how exact sums are taken and whether they are
// good enough. They decide from values that are the same on all ranks, and are the same on the host
// and in a kernel. exact_steps.hpp says what they are for.

#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"

#include "channels/exponents.hpp"
#include "channels/fixed_point.hpp"
#include "channels/pivot.hpp"
#include "channels/statistics.hpp"

namespace syncbn::channels {

// --- windows -----------------------------------------------------------------------------------

/// The windows w of a channel's two sums: |terms| < 2^w (fixed_point.hpp).
struct Windows {
  int first;
  int second;
  bool known;  ///< if false, neither window means anything
};

SYNCBN_HOST_DEVICE inline int in_range(int window) {
  return window < least_window ? least_window : window > most_window ? most_window : window;
}

/// Returns a forward's windows for a batch that varies about the pivot by about `var`, which is
/// negative if it is not known. If the square of a difference is in the second window, the
/// difference is in the first, so that kernels check squares alone.
SYNCBN_HOST_DEVICE inline Windows forward_windows(double var, double eps, double pivot) {
  constexpr int deviations = 8;  // a window holds 2^8 standard deviations
  // Elements that are floats may be this far from the mean, however small the variance.
  const double rounding = 0x1p-22 * std::fabs(pivot);
  const double spread = power_of_2(deviations) * std::sqrt(var + eps);
  const double width = spread < rounding ? rounding : spread;
  if (!(var >= 0 && std::isfinite(width) && width > 0)) {
    return {0, 0, false};
  }
  const int fit = exponent_of(width);
  const int exponent = fit < least_window / 2 ? least_window / 2 : fit;
  return {in_range(exponent), in_range(2 * exponent), true};
}

/// Returns a backward's windows. `gradient_exponent` is that of the last backward's largest |dz|.
SYNCBN_HOST_DEVICE inline Windows backward_windows(int gradient_exponent, double mean,
                                                   double invstd) {
  constexpr int gradients = 6;  // a window holds 2^6 times the last step's largest |dz|
  // The products' window holds that times 2^4 standard deviations: the largest dz rarely meets the
  // largest x - mean.
  constexpr int deviations_of_products = 4;
  const double deviation = invstd > 0 ? 1 / invstd : std::fabs(0x1p-24 * mean);
  if (gradient_exponent == no_exponent || !std::isfinite(deviation)) {
    return {0, 0, false};
  }
  const int window = gradient_exponent + gradients;
  return {in_range(window), in_range(window + exponent_of(deviation) + deviations_of_products),
          true};
}

/// Returns the window for terms the largest of which has this exponent. It is one more than the
/// exponent, because a sum may round a term up, or otherwise than the kernel that found the
/// largest.
SYNCBN_HOST_DEVICE inline int fitted_window(int exponent) {
  return exponent == no_exponent ? 0 : in_range(exponent + 1);
}
/// Tells whether terms of this exponent fit in no window; they then count as infinite.
SYNCBN_HOST_DEVICE inline bool is_too_large_to_count(int exponent) {
  return exponent >= most_window;
}

/// A forward's sums of a channel over the group.
struct ForwardTotals {
  double sum;
  double sum_sq;
  double count;  ///< the sum of the weights
  double terms;  ///< how many weights are not 0
};

/// Bounds of how far a mean and a variance are off because terms were rounded to units.
struct ErrorsOfUnits {
  double mean;
  double var;
};

/// Computes these bounds, as derived in exact_steps.hpp, for units of 2^(window - bits). A term
/// is off by half a unit at most whatever its weight, and so a sum by half a unit for each term.
SYNCBN_HOST_DEVICE inline ErrorsOfUnits errors_of_units(const ForwardTotals& of,
                                                        const Windows& windows, int bits) {
  const double half_units = of.terms / of.count / 2;
  const double mean = half_units * power_of_2(windows.first - bits);
  const double squares = half_units * power_of_2(windows.second - bits);
  return {mean, squares + mean * (2 * std::fabs(of.sum / of.count) + mean)};
}

/// Returns the mean as a pivot of exact sums. `fine` is true for f64.
SYNCBN_HOST_DEVICE inline double to_exact_pivot(double mean, bool fine) {
  return to_pivot(mean, fine ? DType::f64 : DType::f32);
}

/// Returns the pivot nearest to the mean, which sums about `pivot` put at pivot + offset; 0 where
/// that mean is smaller than what rounding x - pivot has lost of it.
SYNCBN_HOST_DEVICE inline double nearest_pivot(double offset, double pivot, bool fine) {
  const double mean = pivot + offset;
  return std::fabs(mean) < 0x1p-48 * std::fabs(offset) ? 0 : to_exact_pivot(mean, fine);
}

/// Tells whether nearest_pivot() is less than half as far from the mean as `pivot` is.
SYNCBN_HOST_DEVICE inline bool another_pivot_is_nearer(double offset, double pivot, bool fine) {
  const double nearest = nearest_pivot(offset, pivot, fine);
  return nearest != pivot && 2 * std::fabs(pivot + offset - nearest) < std::fabs(offset);
}

/// Tells whether a forward's sums, of terms inside these windows, are too coarse for the mean and
/// the variance and would be finer in others. `fitted` says that the windows are those of the
/// largest terms, which become smaller only about another pivot.
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

/// Tells whether a backward's window is more than 2^16 times as wide as the largest |dz| needs.
SYNCBN_HOST_DEVICE inline bool is_too_wide(int window, int largest_exponent) {
  constexpr int widest = 16;
  return largest_exponent != no_exponent && window - largest_exponent > widest;
}

// --- integers ----------------------------------------------------------------------------------

/// Returns the same integer with a low half from 0 to 2^32 - 1.
SYNCBN_HOST_DEVICE inline Integer carried(Integer value) {
  value.high += value.low >> 32;
  value.low &= 0xFFFFFFFF;
  return value;
}

/// Returns the value of the integer high * 2^32 + low in units of 2^(window - bits).
SYNCBN_HOST_DEVICE inline double in_units(double high, double low, int window, int bits) {
  return std::fma(high, 0x1p32, low) * power_of_2(window - bits);
}
SYNCBN_HOST_DEVICE inline double in_units(Integer value, int window, int bits) {
  value = carried(value);
  return in_units(static_cast<double>(value.high), static_cast<double>(value.low), window, bits);
}

/// Returns the value of a sum of terms in this window.
SYNCBN_HOST_DEVICE inline double value_of(const FixedPointSum& sum, int window) {
  return in_units(sum.coarse, window, unit_bits) + in_units(sum.fine, window, 2 * unit_bits);
}

}  // namespace syncbn::channels
