// SPDX-License-Identifier: Apache-2.0

// The gradient behind the activation.

#if defined(SYNCBN_KERNELS_CPU_UPSTREAM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_UPSTREAM_INL
#undef SYNCBN_KERNELS_CPU_UPSTREAM_INL
#else
#define SYNCBN_KERNELS_CPU_UPSTREAM_INL
#endif

#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/normalized-inl.hpp"
#include "kernels/kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// How dz and x - mean are found.
enum class Way : std::uint8_t {
  linear,  ///< dz = dy
  from_x,  ///< the side from y recomputed
  from_y,  ///< the side from y
  output,  ///< the side from y, and x - mean from it too
};

/// Calls body<kWay, kWeighted>() for the way that fits.
template <class Body>
void visit_way(const Upstream& upstream, Body body) {
  const bool linear = upstream.negative_slope == 1;
  const bool weighted = upstream.weight != nullptr;
  if (upstream.source == Source::output) {
    weighted ? body.template operator()<Way::output, true>()
             : body.template operator()<Way::output, false>();
  } else if (upstream.y != nullptr && !linear) {
    weighted ? body.template operator()<Way::from_y, true>()
             : body.template operator()<Way::from_y, false>();
  } else if (weighted) {
    body.template operator()<Way::from_x, true>();
  } else {
    linear ? body.template operator()<Way::linear, false>()
           : body.template operator()<Way::from_x, false>();
  }
}

/// Further coefficients behind the normalized ones.
enum : std::size_t { inverse_scale = normalized_coefficients, upstream_coefficients };

template <class C>
void set_upstream(C& channel, const Upstream& upstream, std::int64_t c) {
  set_normalized(channel, upstream.mean[c], upstream.scale[c], upstream.shift[c]);
  channel.lane[inverse_scale] = narrowed<typename C::LaneType>(
      upstream.scale[c] == 0 ? 0 : 1 / upstream.scale[c]);  // a channel without any spread
}

/// Upstream with its pointers typed.
template <class T, Way kWay, bool kWeighted>
struct TypedUpstream {
  const T* data;
  const T* dy;
  const T* y;
  LowerSide<Lane<T>> lower;
  Lane<T> inverse_slope;

  explicit TypedUpstream(const Upstream& upstream)
      : data(static_cast<const T*>(upstream.data.data())),
        dy(static_cast<const T*>(upstream.dy)),
        y(static_cast<const T*>(upstream.y)),
        lower(upstream.negative_slope),
        inverse_slope(static_cast<Lane<T>>(1 / upstream.negative_slope)) {}

  bool reads(const void* p) const { return p == data || p == dy || p == y; }

  HWY_INLINE void prefetch(std::int64_t i) const {
    prefetch_step(data + i);
    prefetch_step(dy + i);
    if constexpr (kWay == Way::from_y) {
      prefetch_step(y + i);
    }
  }

  /// A step's data in, their x - mean and dz out. Where a weight is 0, data become 0 too.
  template <class D, class K, class Extent>
  HWY_INLINE void operator()(D d, std::int64_t i, const K& k, hn::Vec<D> weight_a,
                             hn::Vec<D> weight_b, Extent extent, hn::Vec<D>& data_a,
                             hn::Vec<D>& data_b, hn::Vec<D>& centered_a, hn::Vec<D>& centered_b,
                             hn::Vec<D>& dz_a, hn::Vec<D>& dz_b) const {
    auto y_a = hn::Zero(d), y_b = hn::Zero(d);
    load(d, data + i, extent, data_a, data_b);
    load(d, dy + i, extent, dz_a, dz_b);
    if constexpr (kWay == Way::from_y) {
      load(d, y + i, extent, y_a, y_b);
    }
    vector<0>(d, k, weight_a, y_a, data_a, centered_a, dz_a);
    vector<1>(d, k, weight_b, y_b, data_b, centered_b, dz_b);
  }

 private:
  template <int kVector, class D, class K>
  HWY_INLINE void vector(D d, const K& k, hn::Vec<D> weight, hn::Vec<D> of_y, hn::Vec<D>& of_data,
                         hn::Vec<D>& x_centered, hn::Vec<D>& dz) const {
    const auto zero = hn::Zero(d);
    if constexpr (kWeighted) {
      const auto absent = hn::Eq(weight, zero);
      of_data = hn::IfThenZeroElse(absent, of_data);
      dz = hn::IfThenZeroElse(absent, dz);
    }
    if constexpr (kWay == Way::output) {
      const auto is_lower = hn::Le(of_data, zero);
      const auto z = hn::IfThenElse(is_lower, hn::Mul(of_data, hn::Set(d, inverse_slope)), of_data);
      x_centered = hn::Mul(hn::Sub(z, k.template lane<shift, kVector>(d)),
                           k.template lane<inverse_scale, kVector>(d));
      dz = hn::IfThenElse(is_lower, lower(d, dz), dz);
    } else {
      x_centered = centered<kVector>(d, of_data, k);
    }
    if constexpr (kWay == Way::from_x) {
      const auto z = normalized<kVector>(d, x_centered, k);
      dz = hn::IfThenElse(hn::Le(z, zero), lower(d, dz), dz);
    } else if constexpr (kWay == Way::from_y) {
      dz = hn::IfThenElse(hn::Le(of_y, zero), lower(d, dz), dz);
    }
  }
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_UPSTREAM_INL
