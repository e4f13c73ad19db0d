// SPDX-License-Identifier: Apache-2.0

// Defines the tallies, which terms are taken into when their order does not matter: integers,
// maxima, bits (channel_tallies.hpp).

#if defined(SYNCBN_KERNELS_CPU_TALLIES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_TALLIES_INL
#undef SYNCBN_KERNELS_CPU_TALLIES_INL
#else
#define SYNCBN_KERNELS_CPU_TALLIES_INL
#endif

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

#include "channels/exact_channels.hpp"
#include "channels/fixed_point.hpp"
#include "kernels/cpu/channel_tallies.hpp"
#include "kernels/cpu/elements-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

using CountTag = hn::RebindToSigned<SumTag>;
using Count = hn::Vec<CountTag>;

enum : std::size_t { first_grid, second_grid, grids };

/// The slots that a vector of terms is added to. They are references because on some machines
/// vectors cannot be members.
struct Slots {
  Count &v0, &v1, &v2, &v3, &v4, &v5;
};

/// A ChannelTally says which slots there are, in add(slots, k, at, p, q, r) how a vector of terms p
/// and q * r is added to them (k has the coefficients), and in write what a channel's totals mean.
/// Where is_rare, less code is compiled for its walk.
template <class T>
concept ChannelTally = requires(const std::int64_t* totals, std::int64_t c,
                                const channels::ExactChannels& to) {
  { T::slots } -> std::convertible_to<TallySlots>;
  { T::is_rare } -> std::convertible_to<bool>;
  T::write(totals, c, to);
};

/// Adds up both sums in units of their windows, for f64 also in finer ones.
template <channels::SumsOf kOf, bool kFine>
struct FixedPointTally {
  static constexpr bool backward = kOf == channels::SumsOf::gradients;
  static constexpr TallySlots slots{
      {Merge::add, Merge::add, Merge::either, Merge::add, Merge::add, Merge::larger},
      {true, true, true, kFine, kFine, backward}};
  static constexpr bool is_rare = false;

  template <class K, class At>
  static HWY_INLINE void add(const Slots& to, const K& k, At, Sum p, Sum q, Sum r) {
    const SumTag d;
    const CountTag dw;
    const auto grid_1 = k.template term<first_grid, At::value>();
    const auto grid_2 = k.template term<second_grid, At::value>();
    const auto first = hn::Add(p, grid_1);
    const auto second = hn::MulAdd(q, r, grid_2);
    const auto in_units = [&](Sum sum, Sum grid) HWY_ATTR {
      return hn::Sub(hn::BitCast(dw, sum), hn::BitCast(dw, grid));
    };
    const auto first_units = in_units(first, grid_1);
    const auto second_units = in_units(second, grid_2);
    to.v0 = hn::Add(to.v0, first_units);
    to.v1 = hn::Add(to.v1, second_units);
    const auto offset = hn::Set(dw, channels::signed_offset);
    if constexpr (kOf == channels::SumsOf::weighted_differences) {
      to.v2 = hn::Or(to.v2, hn::Add(first_units, offset));
    }
    to.v2 = hn::Or(to.v2, backward ? hn::Add(second_units, offset) : second_units);
    if constexpr (backward) {
      to.v5 = hn::BitCast(dw, hn::Max(hn::BitCast(d, to.v5), hn::Abs(p)));
    }
    if constexpr (kFine) {
      const auto finer_by = hn::Set(d, channels::finer);
      const auto fine_grid_1 = hn::Mul(grid_1, finer_by);
      const auto fine_grid_2 = hn::Mul(grid_2, finer_by);
      const auto first_rest = hn::Sub(p, hn::Sub(first, grid_1));
      const auto second_rest = hn::MulSub(q, r, hn::Sub(second, grid_2));
      to.v3 = hn::Add(to.v3, in_units(hn::Add(first_rest, fine_grid_1), fine_grid_1));
      to.v4 = hn::Add(to.v4, in_units(hn::Add(second_rest, fine_grid_2), fine_grid_2));
    }
  }

  static void write(const std::int64_t* totals, std::int64_t c, const channels::ExactChannels& to) {
    const auto sum = [&](std::size_t coarse, std::size_t fine) {
      return channels::FixedPointSum{{totals[coarse], totals[coarse + 1]},
                                     {totals[fine], totals[fine + 1]}};
    };
    const double largest = backward ? std::bit_cast<double>(totals[10]) : 0;
    channels::put_tally(to, c, sum(0, 6), sum(2, 8), largest, channels::is_outside(totals[4]));
  }
};

/// Finds the largest magnitudes, and what infinities and NaNs add up to. Terms are scaled down so
/// that finite ones do not add up to an infinity.
struct MagnitudeTally {
  static constexpr TallySlots slots{
      {Merge::larger, Merge::larger, Merge::plus, Merge::plus, Merge::plus, Merge::plus},
      {true, true, true, true, false, false}};
  static constexpr bool is_rare = true;

  template <class K, class At>
  static HWY_INLINE void add(const Slots& to, const K&, At, Sum p, Sum q, Sum r) {
    const SumTag d;
    const CountTag dw;
    const auto scale = hn::Set(d, 0x1p-100);
    const auto product = hn::Mul(q, r);
    const auto larger = [&](Count slot, Sum v) HWY_ATTR {
      return hn::BitCast(dw, hn::Max(hn::BitCast(d, slot), hn::Abs(v)));
    };
    const auto plus = [&](Count slot, Sum v) HWY_ATTR {
      return hn::BitCast(dw, hn::Add(hn::BitCast(d, slot), hn::Mul(v, scale)));
    };
    to.v0 = larger(to.v0, p);
    to.v1 = larger(to.v1, product);
    to.v2 = plus(to.v2, p);
    to.v3 = plus(to.v3, product);
  }

  static void write(const std::int64_t* totals, std::int64_t c, const channels::ExactChannels& to) {
    const auto magnitude = [&](std::size_t largest, std::size_t sum) {
      const auto special = std::bit_cast<double>(totals[2 * sum]);
      return channels::Magnitude{std::bit_cast<double>(totals[2 * largest]),
                                 std::isfinite(special) ? 0 : special};
    };
    channels::put_magnitudes(to, c, magnitude(0, 2), magnitude(1, 3));
  }
};

template <Merge kMerge>
HWY_INLINE Count merged(Count a, Count b) {
  const SumTag d;
  const CountTag dw;
  if constexpr (kMerge == Merge::add) {
    return hn::Add(a, b);
  } else if constexpr (kMerge == Merge::either) {
    return hn::Or(a, b);
  } else if constexpr (kMerge == Merge::larger) {
    return hn::BitCast(dw, hn::Max(hn::BitCast(d, a), hn::BitCast(d, b)));
  } else {
    return hn::BitCast(dw, hn::Add(hn::BitCast(d, a), hn::BitCast(d, b)));
  }
}

/// Merges the slots of a vector into those in memory, which are `apart` words from each other.
template <ChannelTally Tally>
HWY_INLINE void merge_into(std::int64_t* memory, std::int64_t apart, const Slots& slots) {
  const CountTag d;
  const auto one = [&](auto slot, Count v) HWY_ATTR {
    constexpr std::size_t k = decltype(slot)::value;
    if constexpr (Tally::slots.used[k]) {
      std::int64_t* to = memory + Tally::slots.before(k) * apart;
      hn::StoreU(merged<Tally::slots.merges[k]>(hn::LoadU(d, to), v), d, to);
    }
  };
  one(at_vector<0>, slots.v0);
  one(at_vector<1>, slots.v1);
  one(at_vector<2>, slots.v2);
  one(at_vector<3>, slots.v3);
  one(at_vector<4>, slots.v4);
  one(at_vector<5>, slots.v5);
}

/// Merges all lanes of a vector of each slot, `apart` words from the next, into a channel's totals.
template <ChannelTally Tally>
void take_vectors(const std::int64_t* memory, std::int64_t apart, std::int64_t* totals) {
  const SumTag d;
  const CountTag dw;
  const auto one = [&](auto slot) HWY_ATTR {
    constexpr std::size_t k = decltype(slot)::value;
    if constexpr (Tally::slots.used[k]) {
      const auto words = hn::LoadU(dw, memory + Tally::slots.before(k) * apart);
      constexpr Merge how = Tally::slots.merges[k];
      std::int64_t* total = totals + 2 * k;
      if constexpr (how == Merge::add) {
        const auto low = hn::And(words, hn::Set(dw, 0xFFFFFFFF));
        total[0] += hn::GetLane(hn::SumOfLanes(dw, hn::ShiftRight<32>(words)));
        total[1] += hn::GetLane(hn::SumOfLanes(dw, low));
      } else if constexpr (how == Merge::larger) {
        const auto all = hn::MaxOfLanes(d, hn::BitCast(d, words));
        merge_word(how, std::bit_cast<std::int64_t>(hn::GetLane(all)), *total);
      } else {
        HWY_ALIGN std::int64_t lanes[hn::MaxLanes(dw)];
        hn::Store(words, dw, lanes);
        for (std::size_t j = 0; j < hn::Lanes(dw); ++j) {
          merge_word(how, lanes[j], *total);
        }
      }
    }
  };
  one(at_vector<0>);
  one(at_vector<1>);
  one(at_vector<2>);
  one(at_vector<3>);
  one(at_vector<4>);
  one(at_vector<5>);
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_TALLIES_INL
