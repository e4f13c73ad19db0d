// SPDX-License-Identifier: Apache-2.0

// Forms the terms of a backward's sums for tallies.

#if defined(SYNCBN_KERNELS_CPU_GRADIENT_TERMS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_GRADIENT_TERMS_INL
#undef SYNCBN_KERNELS_CPU_GRADIENT_TERMS_INL
#else
#define SYNCBN_KERNELS_CPU_GRADIENT_TERMS_INL
#endif

#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/tallies-inl.hpp"
#include "kernels/cpu/upstream-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

enum : std::size_t { mean = grids };  // of terms, behind the grids

template <class T>
using GradientChannel = OneChannel<T, upstream_coefficients, grids + 1, double>;

/// Lays out the coefficients of all channels. Without windows (`to` is null) the grids are 0.
template <class T>
Coefficients coefficients_for(const BackwardSums& arguments, const ChannelRange& range,
                              const channels::ExactChannels* to, Scratch& scratch) {
  scratch.reset();
  const Upstream& upstream = arguments.upstream;
  return coefficients_of(range, scratch, [&](std::int64_t c) {
    GradientChannel<T> channel;
    set_upstream(channel, upstream, c);
    channel.term[first_grid] = to == nullptr ? 0 : channels::grid(to->first_window[c]);
    channel.term[second_grid] = to == nullptr ? 0 : channels::grid(to->second_window[c]);
    // Terms are centered once more, more exactly than lanes. Way::output has no x, only x - mean.
    channel.term[mean] = way_of(upstream) == Way::output ? 0 : upstream.mean[c];
    return channel;
  });
}

/// Forms the terms dz and dz (x - mean).
template <class T, bool kWeighted>
struct GradientTerms {
  using Element = T;
  using Channel = GradientChannel<T>;
  using Typed = TypedUpstream<T, Way::any, kWeighted>;
  using In = typename Typed::In;
  static constexpr bool weighted = kWeighted;

  In in;
  Typed upstream;

  explicit GradientTerms(const Upstream& arguments)
      : in(Typed::inputs_of(arguments)), upstream(arguments) {}

  template <class K, class Extent, class Add>
  HWY_INLINE void operator()(const In& from, std::int64_t i, const K& k, const float* weights,
                             Extent extent, const Add& add) const {
    const LaneTag<T> d;
    using V = hn::Vec<LaneTag<T>>;
    auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
    if constexpr (kWeighted) {
      load_weights<T>(d, weights, weight_a, weight_b);
    }
    auto x_a = hn::Zero(d), x_b = hn::Zero(d), centered_a = x_a, centered_b = x_a;
    auto dz_a = hn::Zero(d), dz_b = hn::Zero(d);
    upstream(d, from, i, k, Vectors<V>{weight_a, weight_b}, Vectors<V>{x_a, x_b},
             Vectors<V>{centered_a, centered_b}, Vectors<V>{dz_a, dz_b});
    keep_or_zero<T>(d, dz_a, dz_b, extent);
    if (upstream.is(Way::output)) {
      x_a = centered_a;
      x_b = centered_b;
    }
    keep_or_zero<T>(d, x_a, x_b, extent);
    widen(x_a, x_b, dz_a, dz_b, [&](auto at, Sum x, Sum dz) HWY_ATTR {
      add(at, dz, dz, hn::Sub(x, k.template term<mean, decltype(at)::value>()));
    });
  }
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_GRADIENT_TERMS_INL
