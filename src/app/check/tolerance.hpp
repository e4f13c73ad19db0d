// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header computes how far a result may be from the exact one. It does a first-order rounding
// analysis (Higham, Accuracy and Stability of Numerical Algorithms, ch. 3) of what
// syncbn/phases.hpp promises. Nothing is tuned. Below, "off by" is the largest error, and a, b, n
// are the backward sums: a = sum(dz), b = sum(dz (x - mean)).
//
//   e  unit round-off of the type that x and y are stored in: f32 2^-24, f64 2^-53, f16 2^-11,
//      bf16 2^-8
//   c  unit round-off of the elementwise arithmetic: 2^-53 for f64, 2^-24 for all others
//   w  unit round-off of the sums and statistics: 2^-53
//   n  elements per channel
//   r  error of a sum of n terms, relative to the sum of their magnitudes: 3 sqrt(n) w, as rounding
//      errors have either sign; for 16-bit types 12c more, as their terms are floats that are first
//      added in float and rounded 12 times
//   p  error of the variance, relative to var + eps, that a pivot off the mean may cause before the
//      sums are taken again: 1e-9, for f64 1e-13, for 16-bit types 5e-5 (channels/pivot.hpp)
//   h  smallest positive number of the stored type: an underflow loses at most half of it
//
// Statistics: var + eps is off by v = p + r, invstd by v/2, both relative. The mean is off by
//   m = (p + r) / invstd + 2 w |mean|    (the second term because it is held in double)
//
// Output: y = (x - mean) s + beta [+ residual], where s = gamma invstd, and z is y before the
// activation. The subtraction rounds twice, once for each half of the mean (a high and a low part,
// which leave out 2 c^2 |mean|); s, the product, beta, and two sums round once each. With
//   A = max(|(x - mean) s| + |beta| + |residual|)
// the errors are
//   z: (6c + v/2) A + |s| (m + 2 c^2 |mean|);    y: e A + h more
//
// Input gradient: dx = s ((dz - a/n) - (x - mean) k), where k = invstd^2 b/n. The last term is
// rounded most, 7 times. With
//   D = max |s| (|dz| + |a/n| + |(x - mean) k|) and B = sum|dz (x - mean)|
// dx is off by
//   (7c + e + 3v/2) D + |s k| (m + 2 c^2 |mean|) + h, and by what a and b are off:
//   |s| (r sum|dz| / n + max|x - mean| invstd^2 (r B + m sum|dz|) / n)
//
// Other gradients:
//   dgamma = b invstd is off by (r + v/2 + 4w) B invstd + invstd m sum|dz|
//   dbeta = a is off by r sum|dz|
//   dresidual = dz is exact
//
// Activation: a slope on its lower side, other than 0, rounds twice, by itself and in its product
// with z or dy. So d = 2c of |z| is added, and d of every |dz|: of dx relative to D, of both sums,
// and of dresidual, which is then stored with e.
//
// Running statistics: running_mean is off by m, running_var (unbiased) by (v + 4w) (var + eps).
// Both are carried through the update.
//
// Weights: the terms of sums are weighted and so rounded once more: r has w more, for 16-bit types
// c. There are as many terms as elements, while n is the sum of the weights. In dx, the terms a/n
// and (x - mean) k are weighted and so rounded twice more; what m and the sums add to dx's error is
// multiplied by the largest weight.
//
// Exact sums: terms are doubles for all types, so r is 3 sqrt(n) w (with weights w more), and p is
// what a unit may cost (channels/exact_steps.hpp): 2^-25, for f64 1e-14. A window of dz is at most
// 2^16 times as wide as the power of 2 above max |dz|. Half its unit, g = 2^-34 max |dz| (f64:
// 2^-84 max |dz|), is lost in each term of a, and 2^5 g / invstd in each of b: n times these in the
// sums.
//
// Recovered x: (x - mean) = (y' - beta) / s, where y' is the stored y with the activation undone,
// and is off by as much as y, relative to A. Undoing rounds twice, as do beta's part and that of
// 1/s. In dx and dgamma, the mean is then off by m + R instead of m. With z's error t,
//   R = (t + (e + 6c + d) A + h / slope) / |s|
//
// On a device (kernels/cuda): terms are floats (f64: doubles) and are rounded 11 times at most,
// with computing and weighting them, so r has 11c more (f64: 3w). In backward sums x - mean is
// computed with the halves of the mean, so it is off by m + 2 c^2 |mean| there. No sums are taken
// again, so p = 0, but sums get worse the farther the pivot K is from the mean. If that distance is
// q, and k = q invstd, then the terms |x - K| sum to at most n sqrt(1 + k^2) / invstd, their
// squares to n (1 + k^2) / invstd^2, so that
//   m = r sqrt(1 / invstd^2 + q^2) + 2 w |mean|,    v = r (k + sqrt(1 + k^2))^2
// The pivot is predicted from the running mean and rounded to float (f = 2^-24): q is how far the
// mean has moved, plus the error of the running mean, plus f |K|. In the first step the pivot is
// the mean that sums about 0 gave: q is the m of these sums, whose own q is |mean|, plus f |mean|.
//
// Where |z| is within its tolerance of 0, rounding decides on which side of the activation it is,
// and so whether the gradient passes. There the check gives dy = 0, so that both answers are the
// same.

#include "syncbn/dtype.hpp"

#include "app/check/cases.hpp"

namespace syncbn::app::check {

struct Precision {
  double element = 0;    ///< e
  double compute = 0;    ///< c
  double smallest = 0;   ///< h
  double pivot = 0;      ///< p
  double run = 0;        ///< part of r besides 3 sqrt(n) w
  double bend = 0;       ///< d; 0 without such a slope
  double weighting = 0;  ///< error that weights add to dx, relative to D
  double half_unit = 0;  ///< g / max |dz|
  double halves = 0;     ///< part of |mean| that its halves leave out in backward sums
  bool recovers_x = false;
  double undone = 0;  ///< h / slope
};

/// Returns the precision of a type's sums and elementwise arithmetic.
Precision precision_of(DType dtype);
/// Returns the precision of everything that the case does.
Precision precision_of(const Case& one);

inline constexpr double double_roundoff = 0x1p-53;  ///< w
inline constexpr double pivot_roundoff = 0x1p-24;   ///< f

/// Magnitudes hold what rounding depends on in one channel of the exact result, named as above.
struct Magnitudes {
  double count = 0;     ///< n
  double terms = 0;     ///< number of elements
  double heaviest = 1;  ///< max w
  double mean = 0;      ///< |mean|
  double invstd = 0;
  double scale = 0;     ///< |s|
  double z_terms = 0;   ///< A
  double dx_terms = 0;  ///< D
  double slope = 0;     ///< |k|
  double farthest = 0;  ///< max |x - mean|
  double dz = 0;        ///< max |dz|
  double sum_dz = 0;    ///< sum |dz|
  double sum_dz_x = 0;  ///< B
  double distance = 0;  ///< q of the first sums; used for devices only
  bool summed_twice = false;
};

/// A Tolerance gives the largest absolute error of each result.
class Tolerance {
 public:
  Tolerance(const Precision& precision, const Magnitudes& channel)
      : precision_(precision), channel_(channel) {}

  double z() const;
  double y() const;
  double dx() const;
  double dresidual() const;
  double weight_grad() const;
  double bias_grad() const;
  double mean() const;
  /// Returns the error of var n/(n-1).
  double unbiased_var() const;

 private:
  double sum() const;                    ///< r
  double units() const;                  ///< error of a from the units of exact sums
  double product_units() const;          ///< error of b from the units of exact sums
  double distance() const;               ///< q
  double offset(double distance) const;  ///< error of the mean by sums about a pivot so far off
  double variance() const;               ///< v
  double recovered() const;              ///< R, or 0
  double centered() const;               ///< error of x - mean, besides the relative part
  double centered_in_sums() const;

  Precision precision_;
  Magnitudes channel_;
};

}  // namespace syncbn::app::check
