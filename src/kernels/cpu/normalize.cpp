// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <limits>

#include "core/visit_dtype.hpp"

#include "kernels/cpu/cpu.hpp"
#include "kernels/cpu/targets.hpp"

// clang-format off: the order matters
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/normalize.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/elementwise-inl.hpp"
#include "kernels/cpu/normalized-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {
namespace {

template <class T, bool kResidual>
struct NormalizeElements {
  using Element = T;
  using Channel = Coefficients<Lane<T>, normalized_coefficients, 0>;

  const Normalize& arguments;
  const T* x = static_cast<const T*>(arguments.x.data());
  const T* residual = static_cast<const T*>(arguments.residual);
  T* y = static_cast<T*>(arguments.y);
  /// relu's 0, or what no number is below.
  Lane<T> floor = arguments.relu ? 0 : -std::numeric_limits<Lane<T>>::infinity();

  Channel coefficients(std::int64_t c) const {
    Channel channel;
    set_normalized(channel, arguments.mean[c], arguments.scale[c], arguments.shift[c]);
    return channel;
  }

  template <class K, class Extent>
  HWY_INLINE void operator()(std::int64_t i, const K& k, Extent extent) const {
    const LaneTag<T> d;
    auto z = normalized(d, centered(d, load(d, x + i, extent), k), k);
    if constexpr (kResidual) {
      z = hn::Add(z, load(d, residual + i, extent));
    }
    const auto lowest = hn::Set(d, floor);
    store(d, hn::IfThenElse(hn::Lt(z, lowest), lowest, z), y + i, extent);  // a NaN is not below
  }
};

void run_normalize(const Normalize& arguments) {
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    if (arguments.residual != nullptr) {
      for_each_element(arguments.x, NormalizeElements<T, true>{arguments});
    } else {
      for_each_element(arguments.x, NormalizeElements<T, false>{arguments});
    }
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_normalize);

void normalize(const Normalize& arguments) {
  HWY_DYNAMIC_DISPATCH(run_normalize)(arguments);
}

}  // namespace syncbn::kernels::cpu
#endif
