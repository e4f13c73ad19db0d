// SPDX-License-Identifier: Apache-2.0
#pragma once

// A Tally is what a thread takes terms into when their order must not matter, with room for each of
// its sets. The arithmetic is that of kernels/cpu/tallies-inl.hpp.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/host_device.hpp"

#include "channels/exact_channels.hpp"
#include "channels/fixed_point.hpp"
#include "kernels/cuda/elements.hpp"

namespace syncbn::kernels::cuda {

/// Grids hold M (channels/fixed_point.hpp) of both windows, as the upper half of its bits; the
/// lower half is 0.
struct Grids {
  std::uint32_t first;
  std::uint32_t second;

  Grids() = default;
  SYNCBN_HOST_DEVICE Grids(int first_window, int second_window)
      : first(upper(channels::grid(first_window))), second(upper(channels::grid(second_window))) {}

  SYNCBN_HOST_DEVICE static std::uint32_t upper(double of) {
    return static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(of) >> 32);
  }
  SYNCBN_HOST_DEVICE static double whole(std::uint32_t upper) {
    return std::bit_cast<double>(static_cast<std::uint64_t>(upper) << 32);
  }
};

/// A ThreadTally takes the terms p and q * r into one of its sets. Its fields are sums of 64 bits,
/// or maxima.
template <class T>
concept ThreadTally = requires(T& tally, const T& taken, const Grids& grids, int set, double term) {
  { T::fields } -> std::convertible_to<int>;
  { T::maxima } -> std::convertible_to<bool>;
  tally.add(set, grids, term, term, term);
  { taken.sum(0, set) } -> std::same_as<std::uint64_t>;
  { taken.mark(set) } -> std::same_as<typename T::Mark>;
};

/// A FixedPointTally holds both sums in units of their windows; for f64 also in finer units. A set
/// takes at most `addable` terms.
template <class T, channels::SumsOf kOf, int kSets>
class FixedPointTally {
 public:
  static constexpr bool fine = std::is_same_v<T, double>;
  static constexpr int fields = fine ? 4 : 2;  ///< first, second; for f64 both in finer units, too
  static constexpr bool maxima = false;
  /// A Mark is the bits of the largest |dz| (0 in a forward), or all ones if a term was outside.
  using Mark = std::conditional_t<fine, std::uint64_t, std::uint32_t>;

  SYNCBN_HOST_DEVICE void add(int set, const Grids& k, double p, double q, double r) {
    const double first_grid = Grids::whole(k.first);
    const double second_grid = Grids::whole(k.second);
    const double first = p + first_grid;
    const double second = std::fma(q, r, second_grid);
    const std::int64_t first_units = channels::units(first, first_grid);
    const std::int64_t second_units = channels::units(second, second_grid);
    add_to_sum(0, set, first_units);
    add_to_sum(1, set, second_units);
    if constexpr (kOf != channels::SumsOf::differences) {
      see(set, kOf == channels::SumsOf::gradients ? second_units : first_units,
          channels::signed_offset);
    }
    if constexpr (kOf != channels::SumsOf::gradients) {
      see(set, second_units, 0);
    } else {
      const auto magnitude = static_cast<Lane<T>>(std::fabs(p));
      largest_[set] = largest_[set] < magnitude ? magnitude : largest_[set];
    }
    if constexpr (fine) {
      const double first_rest = p - (first - first_grid);
      const double second_rest = std::fma(q, r, -(second - second_grid));
      const double finer_first = first_grid * channels::finer;
      const double finer_second = second_grid * channels::finer;
      add_to_sum(2, set, channels::units(first_rest + finer_first, finer_first));
      add_to_sum(3, set, channels::units(second_rest + finer_second, finer_second));
    }
  }

  SYNCBN_HOST_DEVICE std::uint64_t sum(int field, int set) const { return sums_[field][set]; }
  SYNCBN_HOST_DEVICE Mark mark(int set) const {
    constexpr int upper_bits = channels::unit_bits + 1 - 32;
    return outside_[set] >> upper_bits != 0 ? ~Mark{0} : std::bit_cast<Mark>(largest_[set]);
  }

 private:
  SYNCBN_HOST_DEVICE void add_to_sum(int field, int set, std::int64_t value) {
    sums_[field][set] += static_cast<std::uint64_t>(value);
  }
  SYNCBN_HOST_DEVICE void see(int set, std::int64_t in_units, std::int64_t offset) {
    const auto bits = static_cast<std::uint64_t>(in_units) + static_cast<std::uint64_t>(offset);
    outside_[set] |= static_cast<std::uint32_t>(bits >> 32);
  }

  std::uint64_t sums_[fields][kSets] = {};
  std::uint32_t outside_[kSets] = {};  ///< the upper half of bits for is_outside
  Lane<T> largest_[kSets] = {};
};

/// A MagnitudeTally holds the largest magnitudes of both sums' terms, and which special values
/// there are.
template <int kSets>
class MagnitudeTally {
 public:
  static constexpr int fields = 2;
  static constexpr bool maxima = true;
  using Mark = std::uint32_t;

  SYNCBN_HOST_DEVICE void add(int set, const Grids&, double p, double q, double r) {
    see(0, set, p);
    see(1, set, q * r);
  }

  SYNCBN_HOST_DEVICE std::uint64_t sum(int field, int set) const {
    return std::bit_cast<std::uint64_t>(largest_[field][set]);
  }
  SYNCBN_HOST_DEVICE Mark mark(int set) const { return special_[set]; }

 private:
  SYNCBN_HOST_DEVICE void see(int field, int set, double term) {
    const double magnitude = std::fabs(term);
    largest_[field][set] = largest_[field][set] < magnitude ? magnitude : largest_[field][set];
    if (!std::isfinite(term)) {
      special_[set] |= channels::bits_of_special(term) << (field * channels::special_bits);
    }
  }

  double largest_[2][kSets] = {};
  std::uint32_t special_[kSets] = {};
};

}  // namespace syncbn::kernels::cuda
