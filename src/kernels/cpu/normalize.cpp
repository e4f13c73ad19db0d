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

/// Says what goes into y besides x.
enum class With : std::uint8_t {
  nothing,
  activation,
  residual,  ///< and an activation, perhaps with a slope of 1
  weights,   ///< and any of the above, found out when it runs
};

template <class T>
using NormalizeChannel = OneChannel<T, normalized_coefficients, 0>;

template <class T, With kWith>
struct NormalizeElements {
  using Element = T;
  using Channel = NormalizeChannel<T>;
  static constexpr bool weighted = kWith == With::weights;
  static constexpr bool with_residual = kWith >= With::residual;
  using In = Inputs<T, with_residual ? 2 : 1>;
  using Out = Outputs<T, 1>;

  In in;
  Out out;
  bool has_residual;
  LowerSide<Lane<T>> lower;

  explicit NormalizeElements(const Normalize& arguments)
      : out{{static_cast<T*>(arguments.y)}},
        has_residual(arguments.residual != nullptr),
        lower(arguments.negative_slope) {
    const auto* x = static_cast<const T*>(arguments.x.data());
    in.of[0] = x;
    if constexpr (with_residual) {
      in.of[1] = has_residual ? static_cast<const T*>(arguments.residual) : x;
    }
  }

  template <class K>
  HWY_INLINE void operator()(const In& from, const Out& to, std::int64_t i, const K& k,
                             const float* weights, bool stream) const {
    const LaneTag<T> d;
    auto a = hn::Zero(d), b = hn::Zero(d), residual_a = a, residual_b = a;
    load(d, from.of[0] + i, a, b);
    if constexpr (with_residual) {
      if (kWith == With::residual || has_residual) {
        load(d, from.of[1] + i, residual_a, residual_b);
      }
    }
    a = value<0>(d, a, residual_a, k);
    b = value<1>(d, b, residual_b, k);
    if constexpr (weighted) {
      auto weight_a = hn::Zero(d), weight_b = hn::Zero(d);
      load_weights<T>(d, weights, weight_a, weight_b);
      a = hn::IfThenZeroElse(hn::Eq(weight_a, hn::Zero(d)), a);
      b = hn::IfThenZeroElse(hn::Eq(weight_b, hn::Zero(d)), b);
    }
    store(d, a, b, to.of[0] + i, stream);
  }

 private:
  template <int kVector, class D, class K>
  HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> of_x, hn::Vec<D> of_residual, const K& k) const {
    auto z = normalized<kVector>(d, centered<kVector>(d, of_x, k), k);
    if constexpr (with_residual) {
      if (kWith == With::residual || has_residual) {  // adding 0 would make 0 of -0
        z = hn::Add(z, of_residual);
      }
    }
    if constexpr (kWith != With::nothing) {
      z = hn::IfThenElse(hn::Lt(z, hn::Zero(d)), lower(d, z), z);  // a NaN is not below 0
    }
    return z;
  }
};

void run_normalize(const Normalize& arguments, const ChannelRange& channels, const Run& run) {
  run.scratch.reset();
  visit_dtype(arguments.x.dtype(), [&]<class T>() {
    const Coefficients coefficients = coefficients_of(channels, run.scratch, [&](std::int64_t c) {
      NormalizeChannel<T> channel;
      set_normalized(channel, arguments.mean[c], arguments.scale[c], arguments.shift[c]);
      return channel;
    });
    const auto with = [&]<With kWith>() {
      for_each_element(arguments.x, channels, NormalizeElements<T, kWith>(arguments),
                       arguments.weight, coefficients, run);
    };
    if (arguments.weight != nullptr) {
      with.template operator()<With::weights>();
    } else if (arguments.residual != nullptr) {
      with.template operator()<With::residual>();
    } else if (arguments.negative_slope != 1) {
      with.template operator()<With::activation>();
    } else {
      with.template operator()<With::nothing>();
    }
  });
}

}  // namespace
}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncbn::kernels::cpu {

HWY_EXPORT(run_normalize);

void normalize(const Normalize& arguments, const ChannelRange& channels, const Run& run) {
  HWY_DYNAMIC_DISPATCH(run_normalize)(arguments, channels, run);
}

}  // namespace syncbn::kernels::cpu
#endif
