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

template <class T, Way kWay, bool kResidual, bool kWeighted>
struct GradientElements {
  enum : std::size_t { mean_dz_hi = upstream_coefficients, mean_dz_lo, slope, lanes };
  using Element = T;
  using Channel = Coefficients<T, lanes, 0>;
  static constexpr bool weighted = kWeighted;
  static constexpr int outputs = kResidual ? 2 : 1;

  const InputGradient& arguments;
  const float* weight = arguments.upstream.weight;
  TypedUpstream<T, kWay, kWeighted> upstream{arguments.upstream};

  T* output(int n) const { return static_cast<T*>(n == 0 ? arguments.dx : arguments.dresidual); }
  bool in_place() const {
    return upstream.reads(arguments.dx) || (kResidual && upstream.reads(arguments.dresidual));
  }

  Channel coefficients(std::int64_t c) const {
    const Pair<Lane<T>> mean_dz(arguments.mean_dz[c]);
    Channel channel;
    set_upstream(channel, arguments.upstream, c);
    channel.lane[mean_dz_hi] = mean_dz.hi;
    channel.lane[mean_dz_lo] = mean_dz.lo;
    channel.lane[slope] = narrowed<Lane<T>>(arguments.slope[c]);
    return channel;
  }

  HWY_INLINE void prefetch(std::int64_t i) const { upstream.prefetch(i); }

  template <class K, class Extent, class How>
  HWY_INLINE void operator()(std::int64_t i, const K& k, const float* weights, Extent extent,
                             How how, T* dx, T* dresidual) const {
    const LaneTag<T> d;
    auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
    if constexpr (kWeighted) {
      load_weights<T>(d, weights, extent, weight_a, weight_b);
    }
    auto data_a = hn::Zero(d), data_b = hn::Zero(d), centered_a = data_a, centered_b = data_a;
    auto dz_a = hn::Zero(d), dz_b = hn::Zero(d);
    upstream(d, i, k, weight_a, weight_b, extent, data_a, data_b, centered_a, centered_b, dz_a,
             dz_b);
    store(d, gradient<0>(d, dz_a, centered_a, weight_a, k),
          gradient<1>(d, dz_b, centered_b, weight_b, k), dx, extent, how);
    if constexpr (kResidual) {
      store(d, dz_a, dz_b, dresidual, extent, how);
    }
  }

 private:
  template <int kVector, class D, class K>
  HWY_INLINE hn::Vec<D> gradient(D d, hn::Vec<D> dz, hn::Vec<D> x_centered, hn::Vec<D> weight_of,
                                 const K& k) const {
    const auto high = k.template lane<mean_dz_hi, kVector>(d);
    const auto low = k.template lane<mean_dz_lo, kVector>(d);
    const auto bend = k.template lane<slope, kVector>(d);
    auto rest = dz;
    if constexpr (kWeighted) {
      const auto share = hn::Add(high, hn::MulAdd(x_centered, bend, low));
      rest = hn::NegMulAdd(weight_of, share, dz);
    } else {
      rest = hn::NegMulAdd(x_centered, bend, hn::Sub(hn::Sub(dz, high), low));
    }
    const auto dx = hn::Mul(k.template lane<scale, kVector>(d), rest);
    if constexpr (kWeighted) {  // whatever the sums hold
      return hn::IfThenZeroElse(hn::Eq(weight_of, hn::Zero(d)), dx);
    } else {
      return dx;
    }
  }
};

void run_input_gradient(const InputGradient& arguments, const Run& run) {
  const Upstream& upstream = arguments.upstream;
  visit_dtype(upstream.data.dtype(), [&]<class T>() {
    visit_way_and_weights(upstream, [&]<Way kWay, bool kWeighted>() {
      if (arguments.dresidual != nullptr) {
        for_each_element(upstream.data, arguments.channels,
                         GradientElements<T, kWay, true, kWeighted>{arguments}, run);
      } else {
        for_each_element(upstream.data, arguments.channels,
                         GradientElements<T, kWay, false, kWeighted>{arguments}, run);
      }
    });
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_input_gradient);

void input_gradient(const InputGradient& arguments, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_input_gradient)(arguments, run);
}

}  // namespace syncbn::kernels::cpu
#endif
