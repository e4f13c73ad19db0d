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

template <class T, bool kFromY, bool kResidual>
struct GradientElements {
  enum : std::size_t { mean_dz_hi = normalized_coefficients, mean_dz_lo, slope, lanes };
  using Element = T;
  using Channel = Coefficients<Lane<T>, lanes, 0>;

  const InputGradient& arguments;
  TypedUpstream<T, kFromY> upstream{arguments.upstream};
  T* dx = static_cast<T*>(arguments.dx);
  T* dresidual = static_cast<T*>(arguments.dresidual);

  Channel coefficients(std::int64_t c) const {
    const Upstream& of = arguments.upstream;
    const Pair<Lane<T>> mean_dz(arguments.mean_dz[c]);
    Channel channel;
    set_normalized(channel, of.mean[c], of.scale[c], of.shift[c]);
    channel.lane[mean_dz_hi] = mean_dz.hi;
    channel.lane[mean_dz_lo] = mean_dz.lo;
    channel.lane[slope] = static_cast<Lane<T>>(arguments.slope[c]);
    return channel;
  }

  template <class K, class Extent>
  HWY_INLINE void operator()(std::int64_t i, const K& k, Extent extent) const {
    const LaneTag<T> d;
    const auto x_centered = centered(d, load(d, upstream.x + i, extent), k);
    const auto dz = upstream.gradient(d, i, x_centered, k, extent);
    const auto dz_centered =
        hn::Sub(hn::Sub(dz, k.template lane<mean_dz_hi>(d)), k.template lane<mean_dz_lo>(d));
    const auto rest = hn::NegMulAdd(x_centered, k.template lane<slope>(d), dz_centered);
    store(d, hn::Mul(k.template lane<scale>(d), rest), dx + i, extent);
    if constexpr (kResidual) {
      store(d, dz, dresidual + i, extent);
    }
  }
};

template <class T, bool kFromY>
void run_typed(const InputGradient& arguments) {
  if (arguments.dresidual != nullptr) {
    for_each_element(arguments.upstream.x, GradientElements<T, kFromY, true>{arguments});
  } else {
    for_each_element(arguments.upstream.x, GradientElements<T, kFromY, false>{arguments});
  }
}

void run_input_gradient(const InputGradient& arguments) {
  const Upstream& upstream = arguments.upstream;
  visit_dtype(upstream.x.dtype(), [&]<class T>() {
    upstream.relu&& upstream.y != nullptr ? run_typed<T, true>(arguments)
                                          : run_typed<T, false>(arguments);
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_input_gradient);

void input_gradient(const InputGradient& arguments) {
  HWY_DYNAMIC_DISPATCH(run_input_gradient)(arguments);
}

}  // namespace syncbn::kernels::cpu
#endif
