// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header computes (x - mean) * scale + shift and the activation, for the kernel that writes
// the result and for those that need to know again on which side of the activation a value was.

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "core/host_device.hpp"

namespace syncbn::kernels::cuda {

/// A Pair is a number as the sum hi + lo of two of type F. In double, lo is 0.
template <class F>
struct Pair {
  F hi;
  F lo;

  Pair() = default;
  SYNCBN_HOST_DEVICE explicit Pair(double value) : hi(static_cast<F>(value)), lo(0) {
    if (std::isfinite(hi)) {
      lo = static_cast<F>(value - static_cast<double>(hi));
    }
  }
};

/// A Normalization is one channel's coefficients.
template <class F>
struct Normalization {
  Pair<F> mean;
  F scale;
  F shift;

  /// Returns x - mean.
  SYNCBN_HOST_DEVICE F centered(F x) const { return (x - mean.hi) - mean.lo; }
  /// Returns (x - mean) * scale + shift from x - mean.
  SYNCBN_HOST_DEVICE F normalized(F x_centered) const { return std::fma(x_centered, scale, shift); }
};

/// Says what a kernel's code can do besides normalizing. It takes time to look at what is not
/// there, which is longer than memory takes for elements of 16 bits.
enum class Extras : std::uint8_t {
  none,
  activation,  ///< an activation
  all,         ///< an activation, and further tensors that are read or written
};

/// Calls body<kExtras>() with the least that is needed.
template <class T, class Body>
void visit_extras(bool further_tensors, double negative_slope, Body body) {
  if constexpr (std::is_same_v<T, double>) {  // memory takes longer
    body.template operator()<Extras::all>();
  } else if (further_tensors) {
    body.template operator()<Extras::all>();
  } else if (negative_slope != 1) {
    body.template operator()<Extras::activation>();
  } else {
    body.template operator()<Extras::none>();
  }
}

/// A LowerSide is what an activation does to values below 0.
template <class F>
struct LowerSide {
  F slope;

  /// Returns v * slope; with a slope of 0 exactly 0, for infinities too.
  SYNCBN_HOST_DEVICE F operator()(F v) const { return slope == 0 ? F{0} : v * slope; }
};

/// A NormalizationArrays points to arrays [C] of the coefficients.
struct NormalizationArrays {
  const double* mean;
  const double* scale;
  const double* shift;

  template <class F>
  SYNCBN_HOST_DEVICE Normalization<F> of(std::int64_t c) const {
    return {Pair<F>(mean[c]), static_cast<F>(scale[c]), static_cast<F>(shift[c])};
  }
};

}  // namespace syncbn::kernels::cuda
