// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

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

template <class T, bool kActivation, bool kResidual, bool kWeighted>
struct NormalizeElements {
  using Element = T;
  using Channel = Coefficients<T, normalized_coefficients, 0>;
  static constexpr bool weighted = kWeighted;
  static constexpr int outputs = 1;

  const Normalize& arguments;
  const float* weight = arguments.weight;
  const T* x = static_cast<const T*>(arguments.x.data());
  const T* residual = static_cast<const T*>(arguments.residual);
  LowerSide<Lane<T>> lower{arguments.negative_slope};

  T* output(int) const { return static_cast<T*>(arguments.y); }
  bool in_place() const { return arguments.y == x || arguments.y == residual; }

  Channel coefficients(std::int64_t c) const {
    Channel channel;
    set_normalized(channel, arguments.mean[c], arguments.scale[c], arguments.shift[c]);
    return channel;
  }

  HWY_INLINE void prefetch(std::int64_t i) const {
    prefetch_step(x + i);
    if constexpr (kResidual) {
      prefetch_step(residual + i);
    }
  }

  template <class K, class Extent, class How>
  HWY_INLINE void operator()(std::int64_t i, const K& k, const float* weights, Extent extent,
                             How how, T* y, T*) const {
    const LaneTag<T> d;
    auto a = hn::Zero(d), b = hn::Zero(d), residual_a = a, residual_b = a;
    load(d, x + i, extent, a, b);
    if constexpr (kResidual) {
      load(d, residual + i, extent, residual_a, residual_b);
    }
    a = value<0>(d, a, residual_a, k);
    b = value<1>(d, b, residual_b, k);
    if constexpr (kWeighted) {
      auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
      load_weights<T>(d, weights, extent, weight_a, weight_b);
      a = hn::IfThenZeroElse(hn::Eq(weight_a, hn::Zero(d)), a);
      b = hn::IfThenZeroElse(hn::Eq(weight_b, hn::Zero(d)), b);
    }
    store(d, a, b, y, extent, how);
  }

 private:
  template <int kVector, class D, class K>
  HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> of_x, hn::Vec<D> of_residual, const K& k) const {
    auto z = normalized<kVector>(d, centered<kVector>(d, of_x, k), k);
    if constexpr (kResidual) {
      z = hn::Add(z, of_residual);
    }
    if constexpr (kActivation) {
      z = hn::IfThenElse(hn::Lt(z, hn::Zero(d)), lower(d, z), z);  // a NaN is not below
    }
    return z;
  }
};

void run_normalize(const Normalize& arguments, const Run& run) {
  const auto on = [&](const auto& kernel) {
    for_each_element(arguments.x, arguments.channels, kernel, run);
  };
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    const auto with = [&]<bool kActivation, bool kWeighted>() {
      if (arguments.residual != nullptr) {
        on(NormalizeElements<T, kActivation, true, kWeighted>{arguments});
      } else {
        on(NormalizeElements<T, kActivation, false, kWeighted>{arguments});
      }
    };
    if (arguments.weight != nullptr) {
      with.template operator()<true, true>();
    } else if (arguments.negative_slope != 1) {
      with.template operator()<true, false>();
    } else {
      with.template operator()<false, false>();
    }
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_normalize);

void normalize(const Normalize& arguments, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_normalize)(arguments, run);
}

}  // namespace syncbn::kernels::cpu
#endif
