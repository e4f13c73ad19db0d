// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>

#include "core/visit_dtype.hpp"

#include "kernels/cpu/cpu.hpp"
#include "kernels/cpu/targets.hpp"

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/forward_sums.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/channel_sums-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {
namespace {

/// The only coefficient, of lanes as of terms, is the pivot.
enum : std::size_t { pivot };

template <class T>
using ForwardChannel = OneChannel<T, 1, 1>;

template <class T, bool kWeighted>
struct ForwardTerms {
  using Element = T;
  using Channel = ForwardChannel<T>;
  using In = Inputs<T, 1>;
  static constexpr bool weighted = kWeighted;

  In in;

  template <class K, class Extent, class Sums>
  HWY_INLINE void operator()(const In& from, std::int64_t i, const K& k, const float* weights,
                             Extent extent, const Sums& sums) const {
    const LaneTag<T> d;
    auto a = hn::Zero(d), b = hn::Zero(d);
    load(d, from.of[0] + i, a, b);
    if constexpr (kWeighted) {
      auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
      load_weights<T>(d, weights, weight_a, weight_b);
      a = hn::IfThenElse(hn::Eq(weight_a, hn::Zero(d)), k.template lane<pivot, 0>(d), a);
      b = hn::IfThenElse(hn::Eq(weight_b, hn::Zero(d)), k.template lane<pivot, 1>(d), b);
      for_terms<T>(a, b, weight_a, weight_b, [&](auto at, auto value, auto of) HWY_ATTR {
        const auto difference = hn::Sub(value, k.template term<pivot, decltype(at)::value>());
        const auto weighted_difference = hn::Mul(of, difference);
        sums.add(at, weighted_difference, weighted_difference, difference);
      });
    } else {
      keep<T>(d, a, b, k.template lane<pivot, 0>(d), k.template lane<pivot, 1>(d), extent);
      for_terms<T>(a, b, [&](auto at, auto value) HWY_ATTR {
        const auto difference = hn::Sub(value, k.template term<pivot, decltype(at)::value>());
        sums.add(at, difference, difference, difference);
      });
    }
  }
};

void run_forward_sums(const ForwardSums& arguments, const ChannelRange& channels, const Run& run) {
  run.scratch.reset();
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    const Coefficients coefficients =
        coefficients_of(channels, run.scratch, [&](std::int64_t c) -> ForwardChannel<T> {
          return {{narrowed<Lane<T>>(arguments.pivot[c])}, {narrowed<Term<T>>(arguments.pivot[c])}};
        });
    const Inputs<T, 1> in{{static_cast<const T*>(arguments.x.data())}};
    const auto sum = [&](const auto& terms) {
      sum_channels(arguments.x, channels, terms, arguments.weight, coefficients, arguments.sums,
                   arguments.sums + arguments.x.shape().c, run.scratch);
    };
    if (arguments.weight != nullptr) {
      sum(ForwardTerms<T, true>{in});
    } else {
      sum(ForwardTerms<T, false>{in});
    }
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_forward_sums);

void forward_sums(const ForwardSums& arguments, const ChannelRange& channels, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_forward_sums)(arguments, channels, run);
}

}  // namespace syncbn::kernels::cpu
#endif
