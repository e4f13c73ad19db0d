// SPDX-License-Identifier: Apache-2.0

// Loads and stores: elements of any type as lanes of float (double for f64) and back, whole vectors
// or the first few lanes of one. Nothing beyond the first few is read or written.

#if defined(SYNCBN_KERNELS_CPU_ELEMENTS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_ELEMENTS_INL
#undef SYNCBN_KERNELS_CPU_ELEMENTS_INL
#else
#define SYNCBN_KERNELS_CPU_ELEMENTS_INL
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

#include <hwy/highway.h>

#include "core/float16.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// What elements of type T are computed with.
template <class T>
using Lane = std::conditional_t<std::is_same_v<T, double>, double, float>;

// The caps bound buffers on machines with very long vectors; others do not notice them.

/// Full vectors of Lane<T>.
template <class T>
using LaneTag = hn::CappedTag<Lane<T>, 64>;
/// Full vectors of double, for sums.
using SumTag = hn::CappedTag<double, 32>;
/// As many lanes of Lane<T> as SumTag has.
template <class T>
using TermTag = hn::Rebind<Lane<T>, SumTag>;

/// How much of a vector is there: all of it, or the first `count` lanes.
struct Whole {};
struct First {
  std::size_t count;
};

template <class D>
HWY_INLINE hn::Vec<D> load_words(D d, const hn::TFromD<D>* from, Whole) {
  return hn::LoadU(d, from);
}

template <class D>
HWY_INLINE hn::Vec<D> load_words(D d, const hn::TFromD<D>* from, First first) {
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN hn::TFromD<D> buffer[hn::MaxLanes(d)] = {};
  std::memcpy(buffer, from, first.count * sizeof(*from));
  return hn::Load(d, buffer);
#else
  return hn::MaskedLoad(hn::FirstN(d, first.count), d, from);
#endif
}

template <class D>
HWY_INLINE void store_words(D d, hn::Vec<D> v, hn::TFromD<D>* to, Whole) {
  hn::StoreU(v, d, to);
}

template <class D>
HWY_INLINE void store_words(D d, hn::Vec<D> v, hn::TFromD<D>* to, First first) {
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN hn::TFromD<D> buffer[hn::MaxLanes(d)];
  hn::Store(v, d, buffer);
  std::memcpy(to, buffer, first.count * sizeof(*to));
#else
  hn::BlendedStore(v, hn::FirstN(d, first.count), d, to);
#endif
}

/// v with zeros for lanes that are not there.
template <class D>
HWY_INLINE hn::Vec<D> keep(D, hn::Vec<D> v, Whole) {
  return v;
}
template <class D>
HWY_INLINE hn::Vec<D> keep(D d, hn::Vec<D> v, First first) {
  return hn::IfThenElseZero(hn::FirstN(d, first.count), v);
}

// Whether the target converts binary16 itself. Where it does not, Highway 1.0 truncates and takes
// infinities and NaNs for numbers.
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)) || HWY_ARCH_ARM_A64
inline constexpr bool native_float16 = true;
#else
inline constexpr bool native_float16 = false;
#endif

template <class D>
HWY_INLINE hn::Vec<D> decode(D d, hn::Vec<hn::Rebind<std::uint16_t, D>> bits, BFloat16) {
  const hn::Rebind<std::uint32_t, D> du;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

template <class D>
HWY_INLINE hn::Vec<hn::Rebind<std::uint16_t, D>> encode(D, hn::Vec<D> v, BFloat16) {
  const hn::Rebind<std::uint32_t, D> du;
  const hn::Rebind<std::int32_t, D> di;
  const auto bits = hn::BitCast(du, v);
  // Just under half of the last place that stays, and a tie goes up only from an odd one.
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7FFF)), odd);
  const auto quiet_nan = hn::Or(bits, hn::Set(du, 0x00400000));
  const auto is_nan = hn::RebindMask(du, hn::Ne(v, v));
  const auto upper = hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet_nan, rounded));
  return hn::DemoteTo(hn::Rebind<std::uint16_t, D>(), hn::BitCast(di, upper));
}

template <class D>
HWY_INLINE hn::Vec<D> decode_by_hand(D d, hn::Vec<hn::Rebind<std::uint16_t, D>> bits) {
  const hn::Rebind<std::uint32_t, D> du;
  const hn::Rebind<std::int32_t, D> di;
  const auto wide = hn::PromoteTo(du, bits);
  const auto sign = hn::ShiftLeft<16>(hn::And(wide, hn::Set(du, 0x8000)));
  const auto magnitude = hn::BitCast(di, hn::And(wide, hn::Set(du, 0x7FFF)));
  // The exponent's bias is 15 here, 127 there; infinity and NaN have 31 here, 255 there.
  const auto rebiased = hn::Add(hn::ShiftLeft<13>(magnitude), hn::Set(di, (127 - 15) << 23));
  const auto special = hn::Add(rebiased, hn::Set(di, ((255 - 127) - (31 - 15)) << 23));
  const auto is_special = hn::Gt(magnitude, hn::Set(di, 0x7BFF));
  const auto is_subnormal = hn::Lt(magnitude, hn::Set(di, 0x0400));
  const auto subnormal = hn::Mul(hn::ConvertTo(d, magnitude), hn::Set(d, 0x1p-24f));
  const auto number = hn::IfThenElse(is_special, special, rebiased);
  const auto result = hn::IfThenElse(is_subnormal, hn::BitCast(di, subnormal), number);
  return hn::BitCast(d, hn::Or(sign, hn::BitCast(du, result)));
}

template <class D>
HWY_INLINE hn::Vec<hn::Rebind<std::uint16_t, D>> encode_by_hand(D d, hn::Vec<D> v) {
  const hn::Rebind<std::int32_t, D> di;
  const hn::Rebind<std::uint32_t, D> du;
  const auto sign = hn::ShiftRight<16>(hn::And(hn::BitCast(du, v), hn::Set(du, 0x80000000u)));
  const auto absolute = hn::Abs(v);
  const auto bits = hn::BitCast(di, absolute);
  // As for bfloat16, with 13 bits to go; a carry may run into the exponent, up to infinity.
  const auto odd = hn::And(hn::ShiftRight<13>(bits), hn::Set(di, 1));
  const auto rebias = hn::Set(di, 0xFFF - ((127 - 15) << 23));
  const auto normal = hn::ShiftRight<13>(hn::Add(hn::Add(bits, rebias), odd));
  // The last place of 0.5f is 2^-24, that of a subnormal: the addition rounds.
  const auto half = hn::Set(d, 0.5f);
  const auto subnormal = hn::Sub(hn::BitCast(di, hn::Add(absolute, half)), hn::BitCast(di, half));
  const auto is_subnormal = hn::Lt(bits, hn::Set(di, (127 - 14) << 23));
  const auto is_large = hn::Gt(bits, hn::Set(di, 0x477FFFFF));  // 65536 and more
  const auto is_nan = hn::Gt(bits, hn::Set(di, 0x7F800000));
  const auto number = hn::IfThenElse(is_subnormal, subnormal, normal);
  const auto special = hn::IfThenElse(is_nan, hn::Set(di, 0x7E00), hn::Set(di, 0x7C00));
  const auto result = hn::BitCast(du, hn::IfThenElse(is_large, special, number));
  return hn::DemoteTo(hn::Rebind<std::uint16_t, D>(), hn::BitCast(di, hn::Or(result, sign)));
}

template <class D>
HWY_INLINE hn::Vec<D> decode(D d, hn::Vec<hn::Rebind<std::uint16_t, D>> bits, Float16) {
  if constexpr (native_float16) {
    return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), bits));
  } else {
    return decode_by_hand(d, bits);
  }
}

template <class D>
HWY_INLINE hn::Vec<hn::Rebind<std::uint16_t, D>> encode(D d, hn::Vec<D> v, Float16) {
  if constexpr (native_float16) {
    const hn::Rebind<std::uint16_t, D> du16;
    return hn::BitCast(du16, hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), v));
  } else {
    return encode_by_hand(d, v);
  }
}

template <class D, class T, class Extent>
HWY_INLINE hn::Vec<D> load(D d, const T* from, Extent extent) {
  if constexpr (std::is_same_v<T, hn::TFromD<D>>) {
    return load_words(d, from, extent);
  } else {
    const hn::Rebind<std::uint16_t, D> words;
    return decode(d, load_words(words, &from->bits, extent), T{});
  }
}

template <class D, class T, class Extent>
HWY_INLINE void store(D d, hn::Vec<D> v, T* to, Extent extent) {
  if constexpr (std::is_same_v<T, hn::TFromD<D>>) {
    store_words(d, v, to, extent);
  } else {
    const hn::Rebind<std::uint16_t, D> words;
    store_words(words, encode(d, v, T{}), &to->bits, extent);
  }
}

/// Lanes of float or double as lanes of double.
template <class V>
HWY_INLINE hn::Vec<SumTag> widen(V v) {
  if constexpr (std::is_same_v<hn::TFromV<V>, double>) {
    return v;
  } else {
    return hn::PromoteTo(SumTag(), v);
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_ELEMENTS_INL
