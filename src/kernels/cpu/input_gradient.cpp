// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>

#include "core/visit_dtype.hpp"

#include "kernels/cpu/cpu.hpp"
#include "kernels/cpu/targets.hpp"

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/input_gradient.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/elementwise-inl.hpp"
#include "kernels/cpu/upstream-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {
namespace {

enum : std::size_t {
  mean_dz_hi = upstream_coefficients,
  mean_dz_lo,
  grad_slope,
  gradient_coefficients
};

template <class T>
using GradientChannel = OneChannel<T, gradient_coefficients, 0>;

/// Writes dx and, with kResidual, the residual's gradient where it is wanted.
template <class T, Way kWay, bool kResidual, bool kWeighted>
struct GradientElements {
  using Element = T;
  using Channel = GradientChannel<T>;
  using Typed = TypedUpstream<T, kWay, kWeighted>;
  using In = typename Typed::In;
  using Out = Outputs<T, kResidual ? 2 : 1>;
  static constexpr bool weighted = kWeighted;

  In in;
  Out out;
  Typed upstream;

  explicit GradientElements(const InputGradient& arguments)
      : in(Typed::inputs_of(arguments.upstream)), upstream(arguments.upstream) {
    out.of[0] = static_cast<T*>(arguments.dx);
    if constexpr (kResidual) {
      out.of[1] = static_cast<T*>(arguments.dresidual);
    }
  }

  template <class K>
  HWY_INLINE void operator()(const In& from, const Out& to, std::int64_t i, const K& k,
                             const float* weights, bool stream) const {
    const LaneTag<T> d;
    using V = hn::Vec<LaneTag<T>>;
    auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
    if constexpr (kWeighted) {
      load_weights<T>(d, weights, weight_a, weight_b);
    }
    auto data_a = hn::Zero(d), data_b = hn::Zero(d), centered_a = data_a, centered_b = data_a;
    auto dz_a = hn::Zero(d), dz_b = hn::Zero(d);
    upstream(d, from, i, k, Vectors<V>{weight_a, weight_b}, Vectors<V>{data_a, data_b},
             Vectors<V>{centered_a, centered_b}, Vectors<V>{dz_a, dz_b});
    store(d, gradient<0>(d, dz_a, centered_a, weight_a, k),
          gradient<1>(d, dz_b, centered_b, weight_b, k), to.of[0] + i, stream);
    if constexpr (kResidual) {
      if (to.of[1] != nullptr) {
        store(d, dz_a, dz_b, to.of[1] + i, stream);
      }
    }
  }

 private:
  template <int kVector, class D, class K>
  HWY_INLINE hn::Vec<D> gradient(D d, hn::Vec<D> dz, hn::Vec<D> x_centered, hn::Vec<D> weight_of,
                                 const K& k) const {
    const auto high = k.template lane<mean_dz_hi, kVector>(d);
    const auto low = k.template lane<mean_dz_lo, kVector>(d);
    const auto bend = k.template lane<grad_slope, kVector>(d);
    auto rest = dz;
    if constexpr (kWeighted) {
      const auto share = hn::Add(high, hn::MulAdd(x_centered, bend, low));
      rest = hn::NegMulAdd(weight_of, share, dz);
    } else {
      rest = hn::NegMulAdd(x_centered, bend, hn::Sub(hn::Sub(dz, high), low));
    }
    const auto dx = hn::Mul(k.template lane<scale, kVector>(d), rest);
    if constexpr (kWeighted) {  // even if the sums are not finite
      return hn::IfThenZeroElse(hn::Eq(weight_of, hn::Zero(d)), dx);
    } else {
      return dx;
    }
  }
};

void run_input_gradient(const InputGradient& arguments, const ChannelRange& channels,
                        const Run& run) {
  run.scratch.reset();
  const Upstream& upstream = arguments.upstream;
  visit_dtype(upstream.data.dtype(), [&]<class T>() {
    const Coefficients coefficients = coefficients_of(channels, run.scratch, [&](std::int64_t c) {
      const Pair<Lane<T>> mean_dz(arguments.mean_dz[c]);
      GradientChannel<T> channel;
      set_upstream(channel, upstream, c);
      channel.lane[mean_dz_hi] = mean_dz.hi;
      channel.lane[mean_dz_lo] = mean_dz.lo;
      channel.lane[grad_slope] = narrowed<Lane<T>>(arguments.grad_slope[c]);
      return channel;
    });
    const auto with = [&]<Way kWay, bool kResidual, bool kWeighted>() {
      for_each_element(upstream.data, channels,
                       GradientElements<T, kWay, kResidual, kWeighted>(arguments), upstream.weight,
                       coefficients, run);
    };
    if (upstream.weight != nullptr) {
      with.template operator()<Way::any, true, true>();
    } else if (arguments.dresidual != nullptr) {
      with.template operator()<Way::any, true, false>();
    } else {
      visit_way<T>(upstream, [&]<Way kWay>() { with.template operator()<kWay, false, false>(); });
    }
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_input_gradient);

void input_gradient(const InputGradient& arguments, const ChannelRange& channels, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_input_gradient)(arguments, channels, run);
}

}  // namespace syncbn::kernels::cpu
#endif
