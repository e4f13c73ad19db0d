// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/visit_dtype.hpp"

#include "kernels/cpu/cpu.hpp"
#include "kernels/cpu/targets.hpp"

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/backward_sums.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/channel_sums-inl.hpp"
#include "kernels/cpu/upstream-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {
namespace {

template <class T, Way kWay, bool kWeighted>
struct BackwardTerms {
  enum : std::size_t { mean, terms };
  using Element = T;
  using Channel = Coefficients<T, upstream_coefficients, terms>;
  static constexpr int inputs = 2;
  static constexpr bool weighted = kWeighted;

  const Upstream& arguments;
  const float* weight = arguments.weight;
  TypedUpstream<T, kWay, kWeighted> upstream{arguments};

  Channel coefficients(std::int64_t c) const {
    Channel channel;
    set_upstream(channel, arguments, c);
    channel.term[mean] = static_cast<Term<T>>(arguments.mean[c]);
    return channel;
  }

  HWY_INLINE void prefetch(std::int64_t i) const { upstream.prefetch(i); }

  template <class K, class Extent, class Sums>
  HWY_INLINE void operator()(std::int64_t i, const K& k, const float* weights, Extent extent,
                             const Sums& sums) const {
    const LaneTag<T> d;
    auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
    if constexpr (kWeighted) {
      load_weights<T>(d, weights, extent, weight_a, weight_b);
    }
    auto x_a = hn::Zero(d), x_b = hn::Zero(d), centered_a = x_a, centered_b = x_a;
    auto dz_a = hn::Zero(d), dz_b = hn::Zero(d);
    upstream(d, i, k, weight_a, weight_b, extent, x_a, x_b, centered_a, centered_b, dz_a, dz_b);
    keep_or_zero<T>(d, dz_a, dz_b, extent);
    if constexpr (recentered) {
      keep_or_zero<T>(d, x_a, x_b, extent);
      for_terms<T>(x_a, x_b, dz_a, dz_b, [&](auto at, auto x, auto dz) HWY_ATTR {
        sums.add(at, dz, dz, hn::Sub(x, k.template term<mean, decltype(at)::value>()));
      });
    } else {
      keep_or_zero<T>(d, centered_a, centered_b, extent);
      for_terms<T>(centered_a, centered_b, dz_a, dz_b,
                   [&](auto at, auto centered, auto dz)
                       HWY_ATTR { sums.add(at, dz, dz, centered); });
    }
  }

 private:
  /// Whether terms can be centered more exactly than lanes are.
  static constexpr bool recentered = kWay != Way::output && !std::is_same_v<Term<T>, Lane<T>>;
};

void run_backward_sums(const BackwardSums& arguments, const Run& run) {
  const Upstream& upstream = arguments.upstream;
  visit_dtype(upstream.data.dtype(), [&]<class T>() {
    visit_way_and_weights(upstream, [&]<Way kWay, bool kWeighted>() {
      sum_channels(upstream.data, arguments.channels, BackwardTerms<T, kWay, kWeighted>{upstream},
                   arguments.sum_dz, arguments.sum_dz_x, run.scratch);
    });
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_backward_sums);

void backward_sums(const BackwardSums& arguments, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_backward_sums)(arguments, run);
}

}  // namespace syncbn::kernels::cpu
#endif
