// SPDX-License-Identifier: Apache-2.0

// Loads elements of any type as lanes of float (double for f64), and stores them. A step is what a
// kernel does at a time: two vectors of lanes, a and b, which for a 16-bit type are one vector of
// elements.

#if defined(SYNCBN_KERNELS_CPU_ELEMENTS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_ELEMENTS_INL
#undef SYNCBN_KERNELS_CPU_ELEMENTS_INL
#else
#define SYNCBN_KERNELS_CPU_ELEMENTS_INL
#endif

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "core/float16.hpp"

#include "kernels/cpu/coefficients.hpp"
#include "kernels/cpu/partition.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// The type in which elements of type T are computed.
template <class T>
using Lane = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Vectors are capped at 256 bytes, which bounds buffers on machines with longer ones.

/// Tag, which is Highway's name for a vector's type, of full vectors of Lane<T>.
template <class T>
using LaneTag = hn::CappedTag<Lane<T>, 256 / sizeof(Lane<T>)>;
/// The type in which terms of sums over elements of type T are computed, and added up within a run.
/// Short runs in float lose nothing that a 16-bit type would show.
template <class T>
using Term = std::conditional_t<std::is_same_v<T, float>, double, Lane<T>>;
template <class T>
using TermTag = LaneTag<Term<T>>;
/// Tag of full vectors of double, for sums of runs.
using SumTag = LaneTag<double>;
using Sum = hn::Vec<SumTag>;
#if HWY_TARGET != HWY_SCALAR
/// Tag of the vector that holds a step's elements of a 16-bit type.
template <class T>
using WordTag = hn::Repartition<std::uint16_t, LaneTag<T>>;
#endif

/// Returns how many elements a step has.
template <class T>
HWY_INLINE std::int64_t step_of() {
  return 2 * static_cast<std::int64_t>(hn::Lanes(LaneTag<T>()));
}
/// The most elements that a step has.
template <class T>
inline constexpr std::size_t max_step = 2 * hn::MaxLanes(LaneTag<T>());

static_assert(max_step<float> <= longest_step);
static_assert(max_step<float> * sizeof(float) <= longest_step_bytes);
static_assert(max_step<double> * sizeof(double) <= longest_step_bytes);
static_assert(hn::MaxLanes(SumTag()) <= most_lanes);

/// The number of vectors of terms that a step makes.
template <class T>
inline constexpr int term_vectors = HWY_TARGET != HWY_SCALAR&& std::is_same_v<T, float> ? 4 : 2;
/// The number of vectors of terms that a step makes if terms are double whatever T is.
template <class T>
inline constexpr int vectors_of_terms =
    HWY_TARGET != HWY_SCALAR && !std::is_same_v<T, double> ? 4 : 2;

/// True if a has the elements of even index and b those of odd index, which unpacks fastest.
template <class T>
inline constexpr bool interleaved = HWY_TARGET != HWY_SCALAR&& std::is_same_v<T, BFloat16>;

template <class T>
VectorOrder vector_order() {
  return {step_of<T>(), interleaved<T>};
}

// Whole and First say how many elements of a step count.

struct Whole {};
/// The first `count` elements count. The others can be read, but mean nothing.
struct First {
  std::int64_t count;
};

/// Keeps a and b where they count, and puts other_a and other_b elsewhere.
template <class T, class D, class V>
HWY_INLINE void keep(D, V&, V&, V, V, Whole) {}
template <class T, class D, class V>
HWY_INLINE void keep(D d, V& a, V& b, V other_a, V other_b, First first) {
  using F = hn::TFromD<D>;
  const auto count = hn::Set(d, static_cast<F>(first.count));
  const auto lane = hn::Iota(d, 0);
  const auto lanes = hn::Set(d, static_cast<F>(hn::Lanes(d)));
  const auto index_a = interleaved<T> ? hn::Add(lane, lane) : lane;
  const auto index_b = interleaved<T> ? hn::Add(index_a, hn::Set(d, F{1})) : hn::Add(lane, lanes);
  a = hn::IfThenElse(hn::Lt(index_a, count), a, other_a);
  b = hn::IfThenElse(hn::Lt(index_b, count), b, other_b);
}
template <class T, class D, class V, class Extent>
HWY_INLINE void keep_or_zero(D d, V& a, V& b, Extent extent) {
  keep<T>(d, a, b, hn::Zero(d), hn::Zero(d), extent);
}

// native_float16 says whether the target converts binary16 itself. Where it does not, Highway 1.0
// truncates, and takes infinities and NaNs for numbers.
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)) || HWY_ARCH_ARM_A64
inline constexpr bool native_float16 = true;
#else
inline constexpr bool native_float16 = false;
#endif

template <class D>
HWY_INLINE hn::Vec<D> decode_by_hand(D d, hn::Vec<hn::Rebind<std::uint16_t, D>> bits) {
  const hn::Rebind<std::uint32_t, D> du;
  const hn::Rebind<std::int32_t, D> di;
  const auto wide = hn::PromoteTo(du, bits);
  const auto sign = hn::ShiftLeft<16>(hn::And(wide, hn::Set(du, 0x8000)));
  const auto magnitude = hn::BitCast(di, hn::And(wide, hn::Set(du, 0x7FFF)));
  // The exponent's bias is 15 in binary16 and 127 in float; infinities and NaNs have the exponent
  // 31 in binary16 and 255 in float.
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
  // What is added is just under half of the last place that stays, and 1 more if that place is odd:
  // a tie goes to even. A carry may run into the exponent, up to infinity.
  const auto odd = hn::And(hn::ShiftRight<13>(bits), hn::Set(di, 1));
  const auto rebias = hn::Set(di, 0xFFF - ((127 - 15) << 23));
  const auto normal = hn::ShiftRight<13>(hn::Add(hn::Add(bits, rebias), odd));
  // The last place of 0.5f is 2^-24, like that of a subnormal in binary16, so the addition rounds.
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
HWY_INLINE hn::Vec<D> decode_half(D d, hn::Vec<hn::Rebind<std::uint16_t, D>> bits) {
  if constexpr (native_float16) {
    return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), bits));
  } else {
    return decode_by_hand(d, bits);
  }
}

template <class D>
HWY_INLINE hn::Vec<hn::Rebind<std::uint16_t, D>> encode_half(D d, hn::Vec<D> v) {
  if constexpr (native_float16) {
    const hn::Rebind<std::uint16_t, D> du16;
    return hn::BitCast(du16, hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), v));
  } else {
    return encode_by_hand(d, v);
  }
}

#if HWY_TARGET != HWY_SCALAR

template <class D, class W>
HWY_INLINE void decode(D d, W words, hn::Vec<D>& a, hn::Vec<D>& b, Float16) {
  const hn::Repartition<std::uint16_t, D> dw;
  const hn::Half<decltype(dw)> half;
  a = decode_half(d, hn::LowerHalf(half, words));
  b = decode_half(d, hn::UpperHalf(half, words));
}

template <class D>
HWY_INLINE auto encode(D d, hn::Vec<D> a, hn::Vec<D> b, Float16) {
  return hn::Combine(hn::Repartition<std::uint16_t, D>(), encode_half(d, b), encode_half(d, a));
}

template <class D, class W>
HWY_INLINE void decode(D d, W words, hn::Vec<D>& a, hn::Vec<D>& b, BFloat16) {
  const hn::Repartition<std::uint32_t, D> du;
  const auto pairs = hn::BitCast(du, words);
  a = hn::BitCast(d, hn::ShiftLeft<16>(pairs));
  b = hn::BitCast(d, hn::And(pairs, hn::Set(du, 0xFFFF0000u)));
}

// Rounds to nearest, ties to even, into the upper 16 bits. A NaN stays one if its lower 16 bits are
// 0: those of elements are, and `narrowed` makes those of coefficients so.
template <class DU, class V>
HWY_INLINE V round_to_upper(DU du, V bits) {
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  return hn::Add(hn::Add(bits, hn::Set(du, 0x7FFF)), odd);
}

template <class D>
HWY_INLINE auto encode(D, hn::Vec<D> a, hn::Vec<D> b, BFloat16) {
  static_assert(std::endian::native == std::endian::little);
  const hn::Repartition<std::uint32_t, D> du;
  const hn::Repartition<std::uint16_t, D> dw;
  const auto even = hn::ShiftRight<16>(round_to_upper(du, hn::BitCast(du, a)));
  const auto odd = round_to_upper(du, hn::BitCast(du, b));
  return hn::OddEven(hn::BitCast(dw, odd), hn::BitCast(dw, even));
}

#endif

/// Loads a step's elements.
template <class D, class T>
HWY_INLINE void load(D d, const T* from, hn::Vec<D>& a, hn::Vec<D>& b) {
  if constexpr (std::is_same_v<T, hn::TFromD<D>>) {
    a = hn::LoadU(d, from);
    b = hn::LoadU(d, from + hn::Lanes(d));
  } else {
#if HWY_TARGET == HWY_SCALAR
    a = hn::Set(d, static_cast<float>(to_double(from[0])));
    b = hn::Set(d, static_cast<float>(to_double(from[1])));
#else
    decode(d, hn::LoadU(WordTag<T>(), &from->bits), a, b, T{});
#endif
  }
}

/// Writes a vector, past the cache if `stream`: then its place must be aligned to a vector.
template <class D>
HWY_INLINE void put(D d, hn::Vec<D> v, hn::TFromD<D>* to, bool stream) {
  if (stream) {
    hn::Stream(v, d, to);
  } else {
    hn::StoreU(v, d, to);
  }
}

template <class D, class T>
HWY_INLINE void store(D d, hn::Vec<D> a, hn::Vec<D> b, T* to, bool stream) {
  if constexpr (std::is_same_v<T, hn::TFromD<D>>) {
    put(d, a, to, stream);
    put(d, b, to + hn::Lanes(d), stream);
  } else {
#if HWY_TARGET == HWY_SCALAR
    to[0] = from_double<T>(static_cast<double>(hn::GetLane(a)));
    to[1] = from_double<T>(static_cast<double>(hn::GetLane(b)));
#else
    put(WordTag<T>(), encode(d, a, b, T{}), &to->bits, stream);
#endif
  }
}

/// The number of elements by which memory is prefetched ahead of its use. Processors prefetch by
/// themselves, too, but stop at the end of a page and begin late.
template <class T>
inline constexpr std::int64_t prefetch_distance = 2048 / sizeof(T);

/// Asks for a step's elements to be brought into the cache. The address need not be valid.
template <class T>
HWY_INLINE void prefetch_step(const T* from) {
  constexpr std::size_t line = 64;
  const auto bytes = static_cast<std::size_t>(step_of<T>()) * sizeof(T);
  for (std::size_t at = 0; at < bytes; at += line) {
    hwy::Prefetch(reinterpret_cast<const char*>(from) + at);
  }
}

/// Returns the lower half of a vector of float, as double; upper_half() returns the upper one.
template <class V>
HWY_INLINE Sum lower_half(V v) {
#if HWY_TARGET == HWY_SCALAR
  return hn::PromoteTo(SumTag(), v);
#else
  return hn::PromoteTo(SumTag(), hn::LowerHalf(hn::Half<LaneTag<float>>(), v));
#endif
}
#if HWY_TARGET != HWY_SCALAR
template <class V>
HWY_INLINE Sum upper_half(V v) {
  return hn::PromoteTo(SumTag(), hn::UpperHalf(hn::Half<LaneTag<float>>(), v));
}
#endif

template <int kVector>
inline constexpr std::integral_constant<int, kVector> at_vector{};

/// Calls body(k, v, w) for vectors v and w of double that together are a and b, or other_a and
/// other_b, with k = 0, 1, ...
template <class V, class Body>
HWY_INLINE void widen(V a, V b, V other_a, V other_b, Body body) {
  if constexpr (std::is_same_v<hn::TFromV<V>, double>) {
    body(at_vector<0>, a, other_a);
    body(at_vector<1>, b, other_b);
  } else {
#if HWY_TARGET == HWY_SCALAR
    body(at_vector<0>, lower_half(a), lower_half(other_a));
    body(at_vector<1>, lower_half(b), lower_half(other_b));
#else
    body(at_vector<0>, lower_half(a), lower_half(other_a));
    body(at_vector<1>, upper_half(a), upper_half(other_a));
    body(at_vector<2>, lower_half(b), lower_half(other_b));
    body(at_vector<3>, upper_half(b), upper_half(other_b));
#endif
  }
}

/// Calls body(k, v) for vectors v of double that together are a and b, with k = 0, 1, ...
template <class V, class Body>
HWY_INLINE void widen(V a, V b, Body body) {
  widen(a, b, a, b, [&](auto at, auto v, auto) HWY_ATTR { body(at, v); });
}

/// Calls body(k, v, w) for vectors v and w of Term<T> that together are a and b, or other_a and
/// other_b, with k = 0, 1, ...
template <class T, class V, class Body>
HWY_INLINE void for_terms(V a, V b, V other_a, V other_b, Body body) {
  if constexpr (std::is_same_v<hn::TFromV<V>, Term<T>>) {
    body(at_vector<0>, a, other_a);
    body(at_vector<1>, b, other_b);
  } else {
    widen(a, b, other_a, other_b, body);
  }
}

/// Calls body(k, v) for vectors v of Term<T> that together are a and b, with k = 0, 1, ...
template <class T, class V, class Body>
HWY_INLINE void for_terms(V a, V b, Body body) {
  for_terms<T>(a, b, a, b, [&](auto at, auto v, auto) HWY_ATTR { body(at, v); });
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_ELEMENTS_INL
