// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>

#include "core/visit_dtype.hpp"

#include "kernels/cpu/cpu.hpp"
#include "kernels/cpu/targets.hpp"

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/backward_sums.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/channel_sums-inl.hpp"
#include "kernels/cpu/upstream-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {
namespace {

template <class T, bool kFromY>
struct BackwardTerms {
  enum : std::size_t { mean, wides };
  using Channel = Coefficients<Lane<T>, normalized_coefficients, wides>;

  const Upstream& arguments;
  TypedUpstream<T, kFromY> upstream{arguments};

  Channel coefficients(std::int64_t c) const {
    Channel channel;
    set_normalized(channel, arguments.mean[c], arguments.scale[c], arguments.shift[c]);
    channel.wide[mean] = arguments.mean[c];
    return channel;
  }

  HWY_INLINE void prefetch(std::int64_t i) const {
    hwy::Prefetch(upstream.x + i);
    hwy::Prefetch(upstream.dy + i);
    if constexpr (kFromY) {
      hwy::Prefetch(upstream.y + i);
    }
  }

  template <class K, class Extent>
  HWY_INLINE void operator()(std::int64_t i, const K& k, Extent extent, hn::Vec<SumTag>& sum_dz,
                             hn::Vec<SumTag>& sum_dz_x) const {
    const TermTag<T> d;
    const SumTag wide;
    const auto x = load(d, upstream.x + i, extent);
    const auto gradient = upstream.gradient(d, i, centered(d, x, k), k, extent);
    const auto dz = keep(wide, widen(gradient), extent);
    const auto x_centered = keep(wide, hn::Sub(widen(x), k.template wide<mean>()), extent);
    sum_dz = hn::Add(sum_dz, dz);
    sum_dz_x = hn::MulAdd(dz, x_centered, sum_dz_x);
  }
};

void run_backward_sums(const BackwardSums& arguments) {
  const Upstream& upstream = arguments.upstream;
  const auto sum = [&](const auto& terms) {
    sum_channels(upstream.x, terms, arguments.sum_dz, arguments.sum_dz_x);
  };
  visit_dtype(upstream.x.dtype(), [&]<class T>() {
    if (upstream.relu && upstream.y != nullptr) {
      sum(BackwardTerms<T, true>{upstream});
    } else {
      sum(BackwardTerms<T, false>{upstream});
    }
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_backward_sums);

void backward_sums(const BackwardSums& arguments) {
  HWY_DYNAMIC_DISPATCH(run_backward_sums)(arguments);
}

}  // namespace syncbn::kernels::cpu
#endif
