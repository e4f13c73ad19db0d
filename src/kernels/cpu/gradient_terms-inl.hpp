// SPDX-License-Identifier: Apache-2.0

// The terms of a backward's sums, for tallies.

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
#include "kernels/cpu/weights-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// dz and dz (x - mean).
template <class T, Way kWay, bool kWeighted>
struct GradientTerms {
  enum : std::size_t { mean = grids };
  using Element = T;
  using Channel = Coefficients<T, upstream_coefficients, grids + 1, double>;
  static constexpr int inputs = 2;
  static constexpr bool weighted = kWeighted;

  const Upstream& arguments;
  const FixedPoint* to;  ///< null: no grids
  const float* weight = arguments.weight;
  TypedUpstream<T, kWay, kWeighted> upstream{arguments};

  Channel coefficients(std::int64_t c) const {
    Channel channel;
    set_upstream(channel, arguments, c);
    channel.term[first_grid] = to == nullptr ? 0 : grid(to->first_window[c]);
    channel.term[second_grid] = to == nullptr ? 0 : grid(to->second_window[c]);
    channel.term[mean] = recentered() ? arguments.mean[c] : 0;
    return channel;
  }

  HWY_INLINE void prefetch(std::int64_t i) const { upstream.prefetch(i); }

  template <class K, class Extent, class Add>
  HWY_INLINE void operator()(std::int64_t i, const K& k, const float* weights, Extent extent,
                             const Add& add) const {
    const LaneTag<T> d;
    auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
    if constexpr (kWeighted) {
      load_weights<T>(d, weights, extent, weight_a, weight_b);
    }
    auto x_a = hn::Zero(d), x_b = hn::Zero(d), centered_a = x_a, centered_b = x_a;
    auto dz_a = hn::Zero(d), dz_b = hn::Zero(d);
    upstream(d, i, k, weight_a, weight_b, extent, x_a, x_b, centered_a, centered_b, dz_a, dz_b);
    keep_or_zero<T>(d, dz_a, dz_b, extent);
    if (!recentered()) {
      x_a = centered_a;
      x_b = centered_b;
    }
    keep_or_zero<T>(d, x_a, x_b, extent);
    widen(x_a, x_b, dz_a, dz_b, [&](auto at, Sum x, Sum dz) HWY_ATTR {
      if constexpr (kWay == Way::output) {
        add(at, dz, dz, x);
      } else {
        add(at, dz, dz, hn::Sub(x, k.template term<mean, decltype(at)::value>()));
      }
    });
  }

 private:
  /// x - mean is taken once more, more exactly than in lanes. Else there is no mean.
  HWY_INLINE bool recentered() const { return !upstream.is(Way::output); }
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_GRADIENT_TERMS_INL
