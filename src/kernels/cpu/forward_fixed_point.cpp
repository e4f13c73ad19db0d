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

enum : std::size_t { absent };         // of lanes: the pivot, where no element counts
enum : std::size_t { pivot = grids };  // of terms, behind the grids

template <class T>
using DifferenceChannel = OneChannel<T, 1, grids + 1, double>;

template <class T, bool kWeighted>
struct DifferenceTerms {
  using Element = T;
  using Channel = DifferenceChannel<T>;
  using In = Inputs<T, 1>;
  static constexpr bool weighted = kWeighted;

  In in;

  template <class K, class Extent, class Add>
  HWY_INLINE void operator()(const In& from, std::int64_t i, const K& k, const float* weights,
                             Extent extent, const Add& add) const {
    const LaneTag<T> d;
    auto a = hn::Zero(d), b = hn::Zero(d);
    load(d, from.of[0] + i, a, b);
    if constexpr (kWeighted) {
      auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
      load_weights<T>(d, weights, weight_a, weight_b);
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

/// Lays out the coefficients of all channels. Without windows (`to` is null) the grids are 0.
template <class T>
Coefficients coefficients_for(const ForwardSums& arguments, const ChannelRange& range,
                              const channels::ExactChannels* to, Scratch& scratch) {
  scratch.reset();
  return coefficients_of(range, scratch, [&](std::int64_t c) -> DifferenceChannel<T> {
    return {{narrowed<Lane<T>>(arguments.pivot[c])},
            {to == nullptr ? 0 : channels::grid(to->first_window[c]),
             to == nullptr ? 0 : channels::grid(to->second_window[c]), arguments.pivot[c]}};
  });
}

/// Calls body<T, kWeighted>(terms) for the element type and for whether there are weights.
template <class Body>
void visit_terms(const ForwardSums& arguments, Body body) {
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    const Inputs<T, 1> in{{static_cast<const T*>(arguments.x.data())}};
    if (arguments.weight != nullptr) {
      body.template operator()<T, true>(DifferenceTerms<T, true>{in});
    } else {
      body.template operator()<T, false>(DifferenceTerms<T, false>{in});
    }
  });
}

void run_forward_in_fixed_point(const ForwardSums& arguments, const ChannelRange& range,
                                const channels::ExactChannels& to, const Run& run) {
  visit_terms(arguments, [&]<class T, bool kWeighted>(const auto& terms) {
    constexpr channels::SumsOf of =
        kWeighted ? channels::SumsOf::weighted_differences : channels::SumsOf::differences;
    tally_channels<FixedPointTally<of, std::is_same_v<T, double>>>(
        arguments.x, range, terms, arguments.weight,
        coefficients_for<T>(arguments, range, &to, run.scratch), run.scratch, to);
  });
}

void run_forward_magnitudes(const ForwardSums& arguments, const ChannelRange& range,
                            const channels::ExactChannels& to, const Run& run) {
  visit_terms(arguments, [&]<class T, bool kWeighted>(const auto& terms) {
    tally_channels<MagnitudeTally>(arguments.x, range, terms, arguments.weight,
                                   coefficients_for<T>(arguments, range, nullptr, run.scratch),
                                   run.scratch, to);
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_forward_in_fixed_point);
HWY_EXPORT(run_forward_magnitudes);

void forward_in_fixed_point(const ForwardSums& arguments, const ChannelRange& range,
                            const channels::ExactChannels& to, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_forward_in_fixed_point)(arguments, range, to, run);
}

void forward_magnitudes(const ForwardSums& arguments, const ChannelRange& range,
                        const channels::ExactChannels& to, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_forward_magnitudes)(arguments, range, to, run);
}

}  // namespace syncbn::kernels::cpu
#endif
