// SPDX-License-Identifier: Apache-2.0

// Computes (x - mean) * scale + shift and the activation, for the kernel that writes them and for
// those of the backward, which find out again on which side of the activation a value was.

#if defined(SYNCBN_KERNELS_CPU_NORMALIZED_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_NORMALIZED_INL
#undef SYNCBN_KERNELS_CPU_NORMALIZED_INL
#else
#define SYNCBN_KERNELS_CPU_NORMALIZED_INL
#endif

#include <cstddef>

#include <hwy/highway.h>

#include "kernels/cpu/coefficients-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// Numbers of these coefficients among a kernel's; a kernel's further ones follow.
enum : std::size_t { mean_hi, mean_lo, scale, shift, normalized_coefficients };

template <class C>
void set_normalized(C& channel, double mean, double scale_value, double shift_value) {
  using F = typename C::LaneType;
  const Pair<F> pair(mean);
  channel.lane[mean_hi] = pair.hi;
  channel.lane[mean_lo] = pair.lo;
  channel.lane[scale] = narrowed<F>(scale_value);
  channel.lane[shift] = narrowed<F>(shift_value);
}

/// Returns x - mean.
template <int kVector, class D, class K>
HWY_INLINE hn::Vec<D> centered(D d, hn::Vec<D> x, const K& k) {
  return hn::Sub(hn::Sub(x, k.template lane<mean_hi, kVector>(d)),
                 k.template lane<mean_lo, kVector>(d));
}

/// Returns (x - mean) * scale + shift, given x - mean.
template <int kVector, class D, class K>
HWY_INLINE hn::Vec<D> normalized(D d, hn::Vec<D> x_centered, const K& k) {
  return hn::MulAdd(x_centered, k.template lane<scale, kVector>(d),
                    k.template lane<shift, kVector>(d));
}

/// Applies the activation to values on its lower side.
template <class F>
struct LowerSide {
  F slope;

  explicit LowerSide(double negative_slope) : slope(static_cast<F>(negative_slope)) {}

  /// Returns v * slope; with a slope of 0 exactly 0, for infinities too.
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, hn::Vec<D> v) const {
    const hn::RebindToUnsigned<D> du;
    const auto all_or_none =
        hn::Set(du, slope == 0 ? 0 : static_cast<hn::TFromD<decltype(du)>>(-1));
    return hn::And(hn::Mul(v, hn::Set(d, slope)), hn::BitCast(d, all_or_none));
  }
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_NORMALIZED_INL
