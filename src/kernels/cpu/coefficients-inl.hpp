// SPDX-License-Identifier: Apache-2.0

// Per-channel coefficients, as vectors: one channel's in every lane, or each column's own.

#if defined(SYNCBN_KERNELS_CPU_COEFFICIENTS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_COEFFICIENTS_INL
#undef SYNCBN_KERNELS_CPU_COEFFICIENTS_INL
#else
#define SYNCBN_KERNELS_CPU_COEFFICIENTS_INL
#endif

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

#include "kernels/cpu/aligned_vector.hpp"
#include "kernels/cpu/elements-inl.hpp"
#include "kernels/cpu/partition.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// One channel's: `lane` in the type computed with, `wide` in double.
template <class F, std::size_t kLane, std::size_t kWide>
struct Coefficients {
  using LaneType = F;
  static constexpr std::size_t lanes = kLane;
  static constexpr std::size_t wides = kWide;

  std::array<F, kLane> lane;
  std::array<double, kWide> wide;
};

/// The value as two numbers hi + lo of type F. In double, lo is 0.
template <class F>
struct Pair {
  F hi;
  F lo;

  explicit Pair(double value) : hi(static_cast<F>(value)), lo(0) {
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

  template <std::size_t kIndex, class D>
  HWY_INLINE hn::Vec<D> lane(D d) const {
    return hn::Set(d, channel_.lane[kIndex]);
  }
  template <std::size_t kIndex>
  HWY_INLINE hn::Vec<SumTag> wide() const {
    return hn::Set(SumTag(), channel_.wide[kIndex]);
  }

 private:
  C channel_;
};

/// The coefficients of all columns of a matrix, each kind in an array of its own.
template <class C>
class Table {
 public:
  /// kernel.coefficients(c) gives channel c's.
  template <class Kernel>
  Table(const Columns& columns, const Kernel& kernel)
      : width_(columns.padded_width()),
        lane_(static_cast<std::size_t>(width_) * C::lanes),
        wide_(static_cast<std::size_t>(width_) * C::wides) {
    const Extents& extents = columns.extents();
    for (std::int64_t c = 0; c < extents.channels; ++c) {
      fill(c * extents.plane, extents.plane, kernel.coefficients(c));
    }
    repeat(lane_, extents.channels * extents.plane);
    repeat(wide_, extents.channels * extents.plane);
  }

  /// Those of the columns from `column` on.
  class View {
   public:
    HWY_INLINE View(const Table& table, std::int64_t column)
        : lane_(table.lane_.data() + column),
          wide_(table.wide_.data() + column),
          width_(table.width_) {}

    template <std::size_t kIndex, class D>
    HWY_INLINE hn::Vec<D> lane(D d) const {
      return hn::LoadU(d, lane_ + std::int64_t{kIndex} * width_);
    }
    template <std::size_t kIndex>
    HWY_INLINE hn::Vec<SumTag> wide() const {
      return hn::LoadU(SumTag(), wide_ + std::int64_t{kIndex} * width_);
    }

   private:
    const typename C::LaneType* lane_;
    const double* wide_;
    std::int64_t width_;
  };

 private:
  void fill(std::int64_t column, std::int64_t count, const C& channel) {
    for (std::size_t k = 0; k < C::lanes; ++k) {
      std::fill_n(lane_.begin() + static_cast<std::int64_t>(k) * width_ + column, count,
                  channel.lane[k]);
    }
    for (std::size_t k = 0; k < C::wides; ++k) {
      std::fill_n(wide_.begin() + static_cast<std::int64_t>(k) * width_ + column, count,
                  channel.wide[k]);
    }
  }

  // For the other copies of the channels, and on to the end.
  template <class F>
  void repeat(AlignedVector<F>& values, std::int64_t period) {
    for (auto row = values.begin(); row != values.end(); row += width_) {
      for (std::int64_t j = period; j < width_; ++j) {
        row[j] = row[j - period];
      }
    }
  }

  std::int64_t width_;
  AlignedVector<typename C::LaneType> lane_;  ///< [C::lanes][width]
  AlignedVector<double> wide_;                ///< [C::wides][width]
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_COEFFICIENTS_INL
