// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

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
#include "kernels/cpu/gradient_terms-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {
namespace {

void run_backward_in_fixed_point(const BackwardSums& arguments, const ChannelRange& range,
                                 const channels::ExactChannels& to, const Run& run) {
  const Upstream& upstream = arguments.upstream;
  visit_dtype(upstream.data.dtype(), [&]<class T>() {
    const Coefficients coefficients = coefficients_for<T>(arguments, range, &to, run.scratch);
    const auto tally = [&](const auto& terms) {
      tally_channels<FixedPointTally<channels::SumsOf::gradients, std::is_same_v<T, double>>>(
          upstream.data, range, terms, upstream.weight, coefficients, run.scratch, to);
    };
    if (upstream.weight != nullptr) {
      tally(GradientTerms<T, true>(upstream));
    } else {
      tally(GradientTerms<T, false>(upstream));
    }
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_backward_in_fixed_point);

void backward_in_fixed_point(const BackwardSums& arguments, const ChannelRange& range,
                             const channels::ExactChannels& to, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_backward_in_fixed_point)(arguments, range, to, run);
}

}  // namespace syncbn::kernels::cpu
#endif
