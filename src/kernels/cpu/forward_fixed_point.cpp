// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>

#include "core/visit_dtype.hpp"

#include "kernels/cpu/cpu.hpp"
#include "kernels/cpu/targets.hpp"

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/forward_fixed_point.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/channel_tallies-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {
namespace {

template <class T, bool kWeighted>
struct DifferenceTerms {
  enum : std::size_t { absent };         // of lanes: the pivot, where there is no element
  enum : std::size_t { pivot = grids };  // of terms
  using Element = T;
  using Channel = Coefficients<T, 1, grids + 1, double>;
  static constexpr int inputs = 1;
  static constexpr bool weighted = kWeighted;

  const T* x;
  const double* pivots;
  const float* weight;
  const FixedPoint* to;  ///< null: no grids

  Channel coefficients(std::int64_t c) const {
    return {{narrowed<Lane<T>>(pivots[c])},
            {to == nullptr ? 0 : grid(to->first_window[c]),
             to == nullptr ? 0 : grid(to->second_window[c]), pivots[c]}};
  }

  HWY_INLINE void prefetch(std::int64_t i) const { prefetch_step(x + i); }

  template <class K, class Extent, class Add>
  HWY_INLINE void operator()(std::int64_t i, const K& k, const float* weights, Extent extent,
                             const Add& add) const {
    const LaneTag<T> d;
    auto a = hn::Zero(d), b = hn::Zero(d);
    load(d, x + i, extent, a, b);
    if constexpr (kWeighted) {
      auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
      load_weights<T>(d, weights, extent, weight_a, weight_b);
      a = hn::IfThenElse(hn::Eq(weight_a, hn::Zero(d)), k.template lane<absent, 0>(d), a);
      b = hn::IfThenElse(hn::Eq(weight_b, hn::Zero(d)), k.template lane<absent, 1>(d), b);
      widen(a, b, weight_a, weight_b, [&](auto at, Sum value, Sum of) HWY_ATTR {
        const auto difference = hn::Sub(value, k.template term<pivot, decltype(at)::value>());
        const auto weighted_difference = hn::Mul(of, difference);
        add(at, weighted_difference, weighted_difference, difference);
      });
    } else {
      keep<T>(d, a, b, k.template lane<absent, 0>(d), k.template lane<absent, 1>(d), extent);
      widen(a, b, [&](auto at, Sum value) HWY_ATTR {
        const auto difference = hn::Sub(value, k.template term<pivot, decltype(at)::value>());
        add(at, difference, difference, difference);
      });
    }
  }
};

/// Calls body<T, kWeighted>(terms).
template <class Body>
void visit_terms(const ForwardSums& arguments, const FixedPoint* to, Body body) {
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    const auto* x = static_cast<const T*>(arguments.x.data());
    if (arguments.weight != nullptr) {
      body.template operator()<T, true>(
          DifferenceTerms<T, true>{x, arguments.pivot, arguments.weight, to});
    } else {
      body.template operator()<T, false>(
          DifferenceTerms<T, false>{x, arguments.pivot, nullptr, to});
    }
  });
}

void run_forward_in_fixed_point(const ForwardSums& arguments, const FixedPoint& to,
                                const Run& run) {
  visit_terms(arguments, &to, [&]<class T, bool kWeighted>(const auto& terms) {
    constexpr SumsOf of = kWeighted ? SumsOf::weighted_differences : SumsOf::differences;
    tally_channels<FixedPointTally<of, std::is_same_v<T, double>>>(arguments.x, arguments.channels,
                                                                   terms, run.scratch, to);
  });
}

void run_forward_magnitudes(const ForwardSums& arguments, const Magnitudes& to, const Run& run) {
  visit_terms(arguments, nullptr, [&]<class T, bool kWeighted>(const auto& terms) {
    tally_channels<MagnitudeTally>(arguments.x, arguments.channels, terms, run.scratch, to);
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_forward_in_fixed_point);
HWY_EXPORT(run_forward_magnitudes);

void forward_in_fixed_point(const ForwardSums& arguments, const FixedPoint& to, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_forward_in_fixed_point)(arguments, to, run);
}

void forward_magnitudes(const ForwardSums& arguments, const Magnitudes& to, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_forward_magnitudes)(arguments, to, run);
}

}  // namespace syncbn::kernels::cpu
#endif
