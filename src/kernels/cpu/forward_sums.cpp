// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>

#include "core/visit_dtype.hpp"

#include "kernels/cpu/cpu.hpp"
#include "kernels/cpu/targets.hpp"

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/forward_sums.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/channel_sums-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {
namespace {

template <class T>
struct ForwardTerms {
  enum : std::size_t { pivot, wides };
  using Channel = Coefficients<Lane<T>, 0, wides>;

  const T* x;
  const float* pivots;

  Channel coefficients(std::int64_t c) const { return {{}, {static_cast<double>(pivots[c])}}; }

  HWY_INLINE void prefetch(std::int64_t i) const { hwy::Prefetch(x + i); }

  template <class K, class Extent>
  HWY_INLINE void operator()(std::int64_t i, const K& k, Extent extent, hn::Vec<SumTag>& sum,
                             hn::Vec<SumTag>& sum_sq) const {
    const SumTag d;
    const auto value = widen(load(TermTag<T>(), x + i, extent));
    const auto difference = keep(d, hn::Sub(value, k.template wide<pivot>()), extent);
    sum = hn::Add(sum, difference);
    sum_sq = hn::MulAdd(difference, difference, sum_sq);
  }
};

void run_forward_sums(const ForwardSums& arguments) {
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    const ForwardTerms<T> terms{static_cast<const T*>(arguments.x.data()), arguments.pivot};
    sum_channels(arguments.x, terms, arguments.sum, arguments.sum_sq);
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_forward_sums);

void forward_sums(const ForwardSums& arguments) {
  HWY_DYNAMIC_DISPATCH(run_forward_sums)(arguments);
}

}  // namespace syncbn::kernels::cpu
#endif
