// SPDX-License-Identifier: Apache-2.0

// Loads coefficients as vectors: one channel's in every lane (Broadcast), or each column's own
// (OfColumns).
//
// lane<kIndex, kVector>(d) is coefficient kIndex for vector a (kVector 0) or b (1) of a step,
// term<kIndex, kVector>() for the kVector-th vector of terms of a step.

#if defined(SYNCBN_KERNELS_CPU_COEFFICIENTS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_COEFFICIENTS_INL
#undef SYNCBN_KERNELS_CPU_COEFFICIENTS_INL
#else
#define SYNCBN_KERNELS_CPU_COEFFICIENTS_INL
#endif

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <hwy/highway.h>

#include "kernels/cpu/coefficients.hpp"
#include "kernels/cpu/elements-inl.hpp"
#include "kernels/scratch.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// One channel's coefficients for elements of type T: kLane of type Lane<T> and kTerm of type Of.
template <class T, std::size_t kLane, std::size_t kTerm, class Of = Term<T>>
struct OneChannel {
  using LaneType = Lane<T>;
  using TermType = Of;
  static constexpr std::size_t lanes = kLane;
  static constexpr std::size_t terms = kTerm;

  std::array<LaneType, kLane> lane;
  std::array<TermType, kTerm> term;
};

/// Returns the value rounded to F. All NaNs become the same one, which round_to_upper needs.
template <class F>
F narrowed(double value) {
  return std::isnan(value) ? std::numeric_limits<F>::quiet_NaN() : static_cast<F>(value);
}

/// The value as two numbers hi + lo of type F. In double, lo is 0.
template <class F>
struct Pair {
  F hi;
  F lo;

  explicit Pair(double value) : hi(narrowed<F>(value)), lo(0) {
    if (std::isfinite(hi)) {
      lo = static_cast<F>(value - static_cast<double>(hi));
    }
  }
};

/// Lays out the coefficients of a range of channels; of(c) gives channel c's as a OneChannel.
template <class Of>
Coefficients coefficients_of(const ChannelRange& channels, Scratch& scratch, const Of& of) {
  using C = decltype(of(channels.begin));
  auto* lane = scratch.take<typename C::LaneType>(channels.size() * std::int64_t{C::lanes});
  auto* term = scratch.take<typename C::TermType>(channels.size() * std::int64_t{C::terms});
  const std::int64_t width = channels.size();
  for (std::int64_t c = 0; c < width; ++c) {
    const C channel = of(channels.begin + c);
    for (std::size_t k = 0; k < C::lanes; ++k) {
      lane[static_cast<std::int64_t>(k) * width + c] = channel.lane[k];
    }
    for (std::size_t k = 0; k < C::terms; ++k) {
      term[static_cast<std::int64_t>(k) * width + c] = channel.term[k];
    }
  }
  return {{lane, C::lanes, std::is_same_v<typename C::LaneType, double>},
          {term, C::terms, std::is_same_v<typename C::TermType, double>},
          width};
}

/// Gives the coefficients of a single channel, the c-th that there are.
template <class C>
class Broadcast {
 public:
  Broadcast(const Coefficients& of, std::int64_t c) {
    for (std::size_t k = 0; k < C::lanes; ++k) {
      channel_.lane[k] = static_cast<const typename C::LaneType*>(
          of.lane.values)[static_cast<std::int64_t>(k) * of.width + c];
    }
    for (std::size_t k = 0; k < C::terms; ++k) {
      channel_.term[k] = static_cast<const typename C::TermType*>(
          of.term.values)[static_cast<std::int64_t>(k) * of.width + c];
    }
  }

  template <std::size_t kIndex, int kVector, class D>
  HWY_INLINE hn::Vec<D> lane(D d) const {
    return hn::Set(d, channel_.lane[kIndex]);
  }
  template <std::size_t kIndex, int kVector>
  HWY_INLINE auto term() const {
    return hn::Set(LaneTag<typename C::TermType>(), channel_.term[kIndex]);
  }

 private:
  C channel_;
};

/// Gives the coefficients of a step's columns, from `column` on in [count][width].
template <class C>
class OfColumns {
 public:
  HWY_INLINE OfColumns(const Coefficients& of, std::int64_t column)
      : lane_(static_cast<const typename C::LaneType*>(of.lane.values) + column),
        term_(static_cast<const typename C::TermType*>(of.term.values) + column),
        width_(of.width) {}

  template <std::size_t kIndex, int kVector, class D>
  HWY_INLINE hn::Vec<D> lane(D d) const {
    return hn::LoadU(d, lane_ + std::int64_t{kIndex} * width_ + kVector * lanes(d));
  }
  template <std::size_t kIndex, int kVector>
  HWY_INLINE auto term() const {
    const LaneTag<typename C::TermType> d;
    return hn::LoadU(d, term_ + std::int64_t{kIndex} * width_ + kVector * lanes(d));
  }

 private:
  template <class D>
  static HWY_INLINE std::int64_t lanes(D d) {
    return static_cast<std::int64_t>(hn::Lanes(d));
  }

  const typename C::LaneType* lane_;
  const typename C::TermType* term_;
  std::int64_t width_;
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_COEFFICIENTS_INL
