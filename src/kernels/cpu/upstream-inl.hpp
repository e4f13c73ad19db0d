// SPDX-License-Identifier: Apache-2.0

// Computes dz, the gradient with respect to the activation's input, and x - mean (kernels.hpp).

#if defined(SYNCBN_KERNELS_CPU_UPSTREAM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_UPSTREAM_INL
#undef SYNCBN_KERNELS_CPU_UPSTREAM_INL
#else
#define SYNCBN_KERNELS_CPU_UPSTREAM_INL
#endif

#include <cstdint>
#include <type_traits>

#include <hwy/highway.h>

#include "kernels/cpu/inputs-inl.hpp"
#include "kernels/cpu/normalized-inl.hpp"
#include "kernels/kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// Says how dz and x - mean are found, and with them the side of the activation: whether it passed
/// a value unchanged.
enum class Way : std::uint8_t {
  linear,  ///< dz = dy
  from_x,  ///< the side from y, recomputed from x
  from_y,  ///< the side from y
  output,  ///< the side and x - mean from y
  any,     ///< found out when it runs: for what is rare, as each way takes long to compile
};

inline Way way_of(const Upstream& upstream) {
  const bool linear = upstream.negative_slope == 1;
  if (upstream.source == Source::output) {
    return Way::output;
  }
  if (upstream.y != nullptr && !linear) {
    return Way::from_y;
  }
  return linear ? Way::linear : Way::from_x;
}

/// Calls body<kWay>() for the way that fits; for f64, whose steps have the fewest elements and take
/// the same time either way, body<Way::any>().
template <class T, class Body>
void visit_way(const Upstream& upstream, Body body) {
  if constexpr (std::is_same_v<T, double>) {
    body.template operator()<Way::any>();
  } else {
    switch (way_of(upstream)) {
      case Way::linear:
        return body.template operator()<Way::linear>();
      case Way::from_y:
        return body.template operator()<Way::from_y>();
      case Way::output:
        return body.template operator()<Way::output>();
      default:
        return body.template operator()<Way::from_x>();
    }
  }
}

/// Numbers of further coefficients, behind those of normalized-inl.hpp.
enum : std::size_t { inverse_scale = normalized_coefficients, upstream_coefficients };

template <class C>
void set_upstream(C& channel, const Upstream& upstream, std::int64_t c) {
  set_normalized(channel, upstream.mean[c], upstream.scale[c], upstream.shift[c]);
  channel.lane[inverse_scale] = narrowed<typename C::LaneType>(
      upstream.scale[c] == 0 ? 0 : 1 / upstream.scale[c]);  // then x - mean is 0
}

/// The vectors a and b of a step. They are references because on some machines vectors cannot be
/// members.
template <class V>
struct Vectors {
  V &a, &b;
};

/// Finds dz and x - mean of a step from its data, dy and y.
template <class T, Way kWay, bool kWeighted>
struct TypedUpstream {
  using In = Inputs<T, kWay == Way::from_y || kWay == Way::any ? 3 : 2>;

  Way way;
  LowerSide<Lane<T>> lower;
  Lane<T> inverse_slope;

  explicit TypedUpstream(const Upstream& upstream)
      : way(way_of(upstream)),
        lower(upstream.negative_slope),
        inverse_slope(static_cast<Lane<T>>(1 / upstream.negative_slope)) {}

  static In inputs_of(const Upstream& upstream) {
    const auto* data = static_cast<const T*>(upstream.data.data());
    const auto* dy = static_cast<const T*>(upstream.dy);
    if constexpr (In::count == 3) {
      const bool reads_y = way_of(upstream) == Way::from_y;
      return {{data, dy, reads_y ? static_cast<const T*>(upstream.y) : data}};
    } else {
      return {{data, dy}};
    }
  }

  HWY_INLINE bool is(Way other) const { return (kWay == Way::any ? way : kWay) == other; }

  /// Loads a step's data, and computes x - mean and dz. Where a weight is 0, data and dz become 0.
  template <class D, class K, class V = hn::Vec<D>>
  HWY_INLINE void operator()(D d, const In& from, std::int64_t i, const K& k, Vectors<V> weight,
                             Vectors<V> data, Vectors<V> x_centered, Vectors<V> dz) const {
    auto y_a = hn::Zero(d), y_b = hn::Zero(d);
    load(d, from.of[0] + i, data.a, data.b);
    load(d, from.of[1] + i, dz.a, dz.b);
    if constexpr (In::count == 3) {
      if (is(Way::from_y)) {
        load(d, from.of[2] + i, y_a, y_b);
      }
    }
    vector<0>(d, k, weight.a, y_a, data.a, x_centered.a, dz.a);
    vector<1>(d, k, weight.b, y_b, data.b, x_centered.b, dz.b);
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
    if (is(Way::output)) {
      const auto is_lower = hn::Le(of_data, zero);
      const auto z = hn::IfThenElse(is_lower, hn::Mul(of_data, hn::Set(d, inverse_slope)), of_data);
      x_centered = hn::Mul(hn::Sub(z, k.template lane<shift, kVector>(d)),
                           k.template lane<inverse_scale, kVector>(d));
      dz = hn::IfThenElse(is_lower, lower(d, dz), dz);
    } else {
      x_centered = centered<kVector>(d, of_data, k);
    }
    if (is(Way::from_x)) {
      const auto z = normalized<kVector>(d, x_centered, k);
      dz = hn::IfThenElse(hn::Le(z, zero), lower(d, dz), dz);
    } else if (is(Way::from_y)) {
      dz = hn::IfThenElse(hn::Le(of_y, zero), lower(d, dz), dz);
    }
  }
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_UPSTREAM_INL
