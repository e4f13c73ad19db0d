// SPDX-License-Identifier: Apache-2.0

// Per-channel coefficients, as vectors: one channel's in every lane, or each column's own.
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

#include <hwy/highway.h>

#include "kernels/cpu/elements-inl.hpp"
#include "kernels/cpu/partition.hpp"
#include "kernels/scratch.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// One channel's, for elements of type T: kLane of Lane<T> and kTerm of Of.
template <class T, std::size_t kLane, std::size_t kTerm, class Of = Term<T>>
struct Coefficients {
  using LaneType = Lane<T>;
  using TermType = Of;
  static constexpr std::size_t lanes = kLane;
  static constexpr std::size_t terms = kTerm;

  std::array<LaneType, kLane> lane;
  std::array<TermType, kTerm> term;
};

/// The value rounded to F. All NaNs become the same one, see round_to_upper.
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

/// A single channel.
template <class C>
class Broadcast {
 public:
  explicit Broadcast(const C& channel) : channel_(channel) {}

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

/// The coefficients of all columns of a matrix, each kind in an array of its own, in the order of
/// place_of.
template <class T, class C>
class Table {
 public:
  /// kernel.coefficients(c) gives channel c's.
  template <class Kernel>
  Table(const Columns& columns, const Kernel& kernel, Scratch& scratch)
      : width_(columns.padded_width()),
        lane_(scratch.take<typename C::LaneType>(width_ * std::int64_t{C::lanes})),
        term_(scratch.take<typename C::TermType>(width_ * std::int64_t{C::terms})) {
    const std::int64_t plane = columns.extents().plane;
    const ChannelRange& channels = columns.channels();
    std::int64_t column = 0;
    while (column < width_) {  // every copy of the channels, and on to the end
      for (std::int64_t c = channels.begin; c < channels.end && column < width_; ++c) {
        const C channel = kernel.coefficients(c);
        for (std::int64_t s = 0; s < plane && column < width_; ++s) {
          fill(place_of<T>(column++), channel);
        }
      }
    }
  }

  /// Those of the steps from `column` on, which is the first of a step.
  class View {
   public:
    HWY_INLINE View(const Table& table, std::int64_t column)
        : lane_(table.lane_ + column), term_(table.term_ + column), width_(table.width_) {}

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

 private:
  void fill(std::int64_t place, const C& channel) {
    for (std::size_t k = 0; k < C::lanes; ++k) {
      lane_[static_cast<std::int64_t>(k) * width_ + place] = channel.lane[k];
    }
    for (std::size_t k = 0; k < C::terms; ++k) {
      term_[static_cast<std::int64_t>(k) * width_ + place] = channel.term[k];
    }
  }

  std::int64_t width_;
  typename C::LaneType* lane_;  ///< [C::lanes][width]
  typename C::TermType* term_;  ///< [C::terms][width]
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_COEFFICIENTS_INL
