// SPDX-License-Identifier: Apache-2.0

// The gradient behind the activation.

#if defined(SYNCBN_KERNELS_CPU_UPSTREAM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_UPSTREAM_INL
#undef SYNCBN_KERNELS_CPU_UPSTREAM_INL
#else
#define SYNCBN_KERNELS_CPU_UPSTREAM_INL
#endif

#include <cstdint>
#include <limits>

#include <hwy/highway.h>

#include "kernels/cpu/normalized-inl.hpp"
#include "kernels/kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// Upstream with its pointers typed. kFromY: the mask comes from y.
template <class T, bool kFromY>
struct TypedUpstream {
  const T* x;
  const T* dy;
  const T* y;
  /// The largest value that relu stops. Without relu a NaN: nothing compares as at most that.
  Lane<T> stopped;

  explicit TypedUpstream(const Upstream& upstream)
      : x(static_cast<const T*>(upstream.x.data())),
        dy(static_cast<const T*>(upstream.dy)),
        y(static_cast<const T*>(upstream.y)),
        stopped(upstream.relu ? 0 : std::numeric_limits<Lane<T>>::quiet_NaN()) {}

  /// dz at index i.
  template <class D, class K, class Extent>
  HWY_INLINE hn::Vec<D> gradient(D d, std::int64_t i, hn::Vec<D> x_centered, const K& k,
                                 Extent extent) const {
    const auto upper = load(d, dy + i, extent);
    if constexpr (kFromY) {
      return hn::IfThenZeroElse(hn::Le(load(d, y + i, extent), hn::Set(d, stopped)), upper);
    } else {
      const auto z = normalized(d, x_centered, k);
      return hn::IfThenZeroElse(hn::Le(z, hn::Set(d, stopped)), upper);
    }
  }
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_UPSTREAM_INL
