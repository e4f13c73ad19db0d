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

/// The only coefficient of terms, and how many there are.
enum : std::size_t { mean, terms };

template <class T>
using BackwardChannel = OneChannel<T, upstream_coefficients, terms>;

template <class T, Way kWay, bool kWeighted>
struct BackwardTerms {
  using Element = T;
  using Channel = BackwardChannel<T>;
  using Typed = TypedUpstream<T, kWay, kWeighted>;
  using In = typename Typed::In;
  static constexpr bool weighted = kWeighted;

  In in;
  Typed upstream;

  explicit BackwardTerms(const Upstream& arguments)
      : in(Typed::inputs_of(arguments)), upstream(arguments) {}

  template <class K, class Extent, class Sums>
  HWY_INLINE void operator()(const In& from, std::int64_t i, const K& k, const float* weights,
                             Extent extent, const Sums& sums) const {
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
    const auto add_centered = [&] HWY_ATTR {
      keep_or_zero<T>(d, centered_a, centered_b, extent);
      for_terms<T>(centered_a, centered_b, dz_a, dz_b,
                   [&](auto at, auto centered, auto dz)
                       HWY_ATTR { sums.add(at, dz, dz, centered); });
    };
    if constexpr (!terms_are_finer || kWay == Way::output) {
      add_centered();
    } else if (upstream.is(Way::output)) {
      add_centered();
    } else {
      keep_or_zero<T>(d, x_a, x_b, extent);
      for_terms<T>(x_a, x_b, dz_a, dz_b, [&](auto at, auto x, auto dz) HWY_ATTR {
        sums.add(at, dz, dz, hn::Sub(x, k.template term<mean, decltype(at)::value>()));
      });
    }
  }

 private:
  /// True if terms can be centered more exactly than lanes: those of f32 are double.
  static constexpr bool terms_are_finer = !std::is_same_v<Term<T>, Lane<T>>;
};

void run_backward_sums(const BackwardSums& arguments, const ChannelRange& channels,
                       const Run& run) {
  run.scratch.reset();
  const Upstream& upstream = arguments.upstream;
  visit_dtype(upstream.data.dtype(), [&]<class T>() {
    const Coefficients coefficients = coefficients_of(channels, run.scratch, [&](std::int64_t c) {
      BackwardChannel<T> channel;
      set_upstream(channel, upstream, c);
      channel.term[mean] = static_cast<Term<T>>(upstream.mean[c]);
      return channel;
    });
    const auto with = [&]<Way kWay, bool kWeighted>() {
      sum_channels(upstream.data, channels, BackwardTerms<T, kWay, kWeighted>(upstream),
                   upstream.weight, coefficients, arguments.sums,
                   arguments.sums + upstream.data.shape().c, run.scratch);
    };
    if (upstream.weight != nullptr) {  // rare, so compiled once
      with.template operator()<Way::any, true>();
    } else {
      visit_way<T>(upstream, [&]<Way kWay>() { with.template operator()<kWay, false>(); });
    }
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_backward_sums);

void backward_sums(const BackwardSums& arguments, const ChannelRange& channels, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_backward_sums)(arguments, channels, run);
}

}  // namespace syncbn::kernels::cpu
#endif
