// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>

#include "core/visit_dtype.hpp"

#include "kernels/cpu/cpu.hpp"
#include "kernels/cpu/targets.hpp"

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/backward_fixed_point.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/channel_tallies-inl.hpp"
#include "kernels/cpu/upstream-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {
namespace {

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
    channel.term[mean] = arguments.mean[c];
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
    if constexpr (kWay != Way::output) {  // x - mean more exactly than in lanes
      keep_or_zero<T>(d, x_a, x_b, extent);
      widen(x_a, x_b, dz_a, dz_b, [&](auto at, Sum x, Sum dz) HWY_ATTR {
        add(at, dz, dz, hn::Sub(x, k.template term<mean, decltype(at)::value>()));
      });
    } else {
      keep_or_zero<T>(d, centered_a, centered_b, extent);
      widen(centered_a, centered_b, dz_a, dz_b,
            [&](auto at, Sum centered, Sum dz) HWY_ATTR { add(at, dz, dz, centered); });
    }
  }
};

/// Calls body<T>(terms).
template <class Body>
void visit_terms(const Upstream& upstream, const FixedPoint* to, Body body) {
  visit_dtype(upstream.data.dtype(), [&]<class T>() {
    visit_way(upstream, [&]<Way kWay, bool kWeighted>() {
      body.template operator()<T>(GradientTerms<T, kWay, kWeighted>{upstream, to});
    });
  });
}

void run_backward_in_fixed_point(const BackwardSums& arguments, const FixedPoint& to,
                                 const Run& run) {
  visit_terms(arguments.upstream, &to, [&]<class T>(const auto& terms) {
    tally_channels<FixedPointTally<SumsOf::gradients, std::is_same_v<T, double>>>(
        arguments.upstream.data, arguments.channels, terms, run.scratch, to);
  });
}

void run_backward_magnitudes(const BackwardSums& arguments, const Magnitudes& to, const Run& run) {
  visit_terms(arguments.upstream, nullptr, [&]<class T>(const auto& terms) {
    tally_channels<MagnitudeTally>(arguments.upstream.data, arguments.channels, terms, run.scratch,
                                   to);
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_backward_in_fixed_point);
HWY_EXPORT(run_backward_magnitudes);

void backward_in_fixed_point(const BackwardSums& arguments, const FixedPoint& to, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_backward_in_fixed_point)(arguments, to, run);
}

void backward_magnitudes(const BackwardSums& arguments, const Magnitudes& to, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_backward_magnitudes)(arguments, to, run);
}

}  // namespace syncbn::kernels::cpu
#endif
