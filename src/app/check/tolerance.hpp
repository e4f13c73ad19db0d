// SPDX-License-Identifier: Apache-2.0
#pragma once

// How far a result may be from the exact one: first-order rounding analysis (Higham, Accuracy and
// Stability of Numerical Algorithms, ch. 3) of what syncbn/phases.hpp promises. Nothing is tuned.
//
//   e  unit round-off of the type that x and y are stored in: f32 2^-24, f64 2^-53, f16 2^-11,
//      bf16 2^-8
//   c  unit round-off of the elementwise arithmetic: 2^-53 for f64, 2^-24 for all others
//   w  2^-53, of the sums and statistics
//   n  elements per channel;  r = 3 sqrt(n) w, a sum of n terms relative to that of their
//      magnitudes (rounding errors of either sign); of 16-bit types, whose terms are of float
//      and first added in float, rounded 12 times, 12c more
//   p  variance error that a pivot off the mean may cause, relative to var + eps, before the sums
//      are taken again: 1e-9, for f64 1e-13, for 16-bit types 5e-5 (pivot_is_far)
//   h  smallest positive number of the stored type: an underflow loses at most half of it
//
// Statistics. var + eps is off by v = p + r, invstd by v/2, both relative. The mean is off by
//   m = (p + r) / invstd + 2 w |mean|    (the second term: it is held in double)
//
// y = (x - mean) s + beta [+ residual] with s = gamma invstd. The subtraction rounds twice, once
// for each half of the mean (which leave out 2 c^2 |mean|); s, the product, beta, and two sums
// round once each. Relative to A = max(|(x - mean) s| + |beta| + |residual|) that is
//   z: 6c + v/2, and |s| (m + 2 c^2 |mean|);    y: e more, and h
//
// dx = s ((dz - a/n) - (x - mean) k) with k = invstd^2 b/n, relative to
// D = max |s| (|dz| + |a/n| + |(x - mean) k|): the last term is rounded most, 7 times;
//   7c + e + 3v/2, and |s k| (m + 2 c^2 |mean|), and what a and b are off:
//   |s| (r sum|dz| / n + max|x - mean| invstd^2 (r B + m sum|dz|) / n),  B = sum|dz (x - mean)|
//
// dgamma = b invstd, relative to B invstd:  r + v/2 + 4w, and invstd m sum|dz|
// dbeta = a, relative to sum|dz|:           r
// dresidual = dz: exact
//
// A slope on the activation's lower side, other than 0, rounds twice: itself, and its product with
// z or dy. That is d = 2c more of |z|, and of every |dz|, thus of dx relative to D, of both sums,
// and of dresidual, which is then stored with e.
//
// running_mean: m;  running_var, unbiased:  v + 4w of var + eps. Each carried through the update.
//
// Weights. Sums have weighted terms, rounded once more: r has w more, for 16-bit types c. Their
// number is that of the elements, n the sum of the weights. In dx, a/n and (x - mean) k are
// weighted, and rounded twice more; so are what m and the sums make of dx: both times max w.
//
// Exact sums. Terms are of double for all types, so r has no more than double's share (with weights
// w more), and p is what a unit may cost (bn/exact_sums.hpp): 2^-25, for f64 1e-14. A window of dz
// is at most 2^16 times as wide as the power of 2 above max |dz|; half its unit, g = 2^-34 max
// |dz|, for f64 2^-84 max |dz|, is lost of each term of a, and 2^5 g / invstd of b: n times these
// of the sums.
//
// Recovered x. (x - mean) = (y' - beta) / s, y' being the stored y with the activation undone, off
// by as much as y, relative to A. Undoing rounds twice, as do beta's part and that of 1/s:
//   R = (z + (e + 6c + d) A + h / slope) / |s|
// more than the mean is off, which is then m + R, in dx and dgamma.
//
// On a device (kernels/cuda). Terms are of float, but for f64, and rounded 11 times at most with
// what forming and weighting them takes: r has 11c more, but for f64, where forming takes 3w. In
// backward sums x - mean is of two floats then: m + 2 c^2 |mean| there. Nothing is summed again, p
// = 0, but sums get worse the farther the pivot is off the mean. With that distance q, and k = q
// invstd, the terms |x - K| sum to n sqrt(1 + k^2) / invstd at most, their squares to n (1 + k^2) /
// invstd^2, so that
//   m = r sqrt(1 / invstd^2 + q^2) + 2 w |mean|,    v = r (k + sqrt(1 + k^2))^2
// The pivot is what the running mean foretells, rounded to float (f = 2^-24): q is how far the mean
// has moved, and what the running mean is off, and f |K|. In the first step it is the mean that
// sums about 0 gave: q is the m of these, whose q is |mean|, and f |mean|.
//
// A bent activation. Where |z| is within its tolerance of 0, rounding decides whether the gradient
// passes. There the check gives dy = 0, so that both answers are the same.

#include "syncbn/dtype.hpp"

#include "app/check/cases.hpp"

namespace syncbn::app::check {

struct Precision {
  double element = 0;    ///< e
  double compute = 0;    ///< c
  double smallest = 0;   ///< h
  double pivot = 0;      ///< p
  double run = 0;        ///< what r has besides double's share
  double bend = 0;       ///< d; 0 without such a slope
  double weighting = 0;  ///< what dx has besides with weights, relative to D
  double half_unit = 0;  ///< g / max |dz|
  double halves = 0;     ///< what the halves of the mean leave out in backward sums, of |mean|
  bool recovers_x = false;
  double undone = 0;  ///< h / slope
};

/// Of a type's sums and elementwise arithmetic.
Precision precision_of(DType dtype);
/// Of all that the case does.
Precision precision_of(const Case& one);

inline constexpr double double_roundoff = 0x1p-53;  ///< w
inline constexpr double pivot_roundoff = 0x1p-24;   ///< f

/// One channel of the exact result, as far as rounding depends on it. Names as above.
struct Magnitudes {
  double count = 0;     ///< n
  double terms = 0;     ///< elements
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
  double distance = 0;  ///< q, of the first sums; of concern on devices only
  bool summed_twice = false;
};

/// All absolute.
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
  /// Of var n/(n-1).
  double unbiased_var() const;

 private:
  double sum() const;                    ///< r
  double units() const;                  ///< that a may be off
  double product_units() const;          ///< that b may be off
  double distance() const;               ///< q
  double offset(double distance) const;  ///< what sums about a pivot so far off make of the mean
  double variance() const;               ///< v
  double recovered() const;              ///< R, or 0
  double centered() const;               ///< of x - mean, besides the relative part
  double centered_in_sums() const;

  Precision precision_;
  Magnitudes channel_;
};

}  // namespace syncbn::app::check
