// SPDX-License-Identifier: Apache-2.0
#pragma once

// This is the memory in which the channels' exact sums are kept: on the host for tensors of the
// host, on a device for those of a device.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"

#include "channels/channel_range.hpp"
#include "channels/count_limbs.hpp"
#include "channels/fixed_point.hpp"

namespace syncbn::channels {

/// A rank's tally of a channel has so many words: two halves each of the first sum, of the second
/// sum, and of the same in finer units, and the mark. The mark is the bits of the largest |dz| (0
/// in a forward), or all ones if a term was outside of its window.
inline constexpr int tally_words = 9;
/// A rank's magnitudes of a channel have so many words: the bits of the largest term of either sum,
/// and which special values (infinities and NaNs) there were.
inline constexpr int magnitude_words = 3;

inline constexpr std::uint64_t outside_mark = ~std::uint64_t{0};

/// Points to what is kept of every channel, in arrays of [C] or [words, C].
struct ExactChannels {
  std::int64_t channels = 0;
  int* first_window = nullptr;          ///< of the pass under way
  int* second_window = nullptr;         ///< of the pass under way
  int* wanted = nullptr;                ///< 1 where the next tally has something to do
  std::uint64_t* tallies = nullptr;     ///< [tally_words, C] of this rank
  std::uint64_t* magnitudes = nullptr;  ///< [magnitude_words, C] of this rank, when last wanted
  std::int64_t* count = nullptr;        ///< [count_words] of this rank
  double* first_special = nullptr;      ///< sum of the group's infinities and NaNs; 0: none
  double* second_special = nullptr;     ///< the same of the second sum
  int* gradient_exponent = nullptr;     ///< of the last backward's largest |dz|
  double* var = nullptr;                ///< expected of the next batch; negative: not known yet

  SYNCBN_HOST_DEVICE std::uint64_t& tally(int k, std::int64_t c) const {
    return tallies[k * channels + c];
  }
  SYNCBN_HOST_DEVICE std::uint64_t& magnitude(int k, std::int64_t c) const {
    return magnitudes[k * channels + c];
  }
};

// The arrays above take so many ints and doubles for each channel, and so many words of 64 bits.
inline constexpr std::int64_t exact_ints = 4;
inline constexpr std::int64_t exact_doubles = 3;
constexpr std::int64_t exact_words(std::int64_t channels) {
  return (tally_words + magnitude_words) * channels + count_words;
}

/// Lays the arrays out in memory of these sizes.
inline ExactChannels lay_out(std::int64_t channels, int* ints, double* doubles,
                             std::uint64_t* words) {
  std::uint64_t* magnitudes = words + tally_words * channels;
  std::uint64_t* count = magnitudes + magnitude_words * channels;
  return {.channels = channels,
          .first_window = ints,
          .second_window = ints + channels,
          .wanted = ints + 2 * channels,
          .tallies = words,
          .magnitudes = magnitudes,
          .count = reinterpret_cast<std::int64_t*>(count),
          .first_special = doubles,
          .second_special = doubles + channels,
          .gradient_exponent = ints + 3 * channels,
          .var = doubles + 2 * channels};
}

/// The channels of a pass whose exact sums are taken together.
struct ExactPass {
  ExactChannels of;
  ChannelRange range;
  bool backward;
  bool fine;  ///< f64

  /// Returns the number of doubles in a message of sums.
  SYNCBN_HOST_DEVICE std::int64_t words() const {
    return range.size() * ((fine ? 8 : 4) + (backward ? 1 : 0)) + count_words;
  }
};

// --- special values ----------------------------------------------------------------------------

/// These bits say which special values a sum has among its terms.
enum : std::uint32_t { has_plus_infinity = 1, has_minus_infinity = 2, has_nan = 4 };
inline constexpr int special_bits = 3;  ///< bits of the first sum; those of the second follow

/// Returns the bits of a term that is not finite.
SYNCBN_HOST_DEVICE inline std::uint32_t bits_of_special(double term) {
  return term > 0 ? has_plus_infinity : term < 0 ? has_minus_infinity : has_nan;
}

/// Returns what the special values of a sum add up to; 0 if there are none.
SYNCBN_HOST_DEVICE inline double special_of(std::uint64_t mark, int field) {
  const auto bits = static_cast<std::uint32_t>(mark >> (field * special_bits)) & 7U;
  const bool plus = (bits & has_plus_infinity) != 0;
  const bool minus = (bits & has_minus_infinity) != 0;
  if ((bits & has_nan) != 0 || (plus && minus)) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return plus ? infinity : minus ? -infinity : 0;
}

// --- what kernels of the host write ------------------------------------------------------------

/// Writes a channel's tally. `largest` is a backward's largest |dz|, else 0.
inline void put_tally(const ExactChannels& to, std::int64_t c, const FixedPointSum& first,
                      const FixedPointSum& second, double largest, bool outside) {
  int k = 0;
  for (const Integer& half : {first.coarse, second.coarse, first.fine, second.fine}) {
    to.tally(k++, c) = static_cast<std::uint64_t>(half.high);
    to.tally(k++, c) = static_cast<std::uint64_t>(half.low);
  }
  to.tally(k, c) = outside ? outside_mark : std::bit_cast<std::uint64_t>(largest);
}

/// The largest magnitude among a sum's terms, and the sum of those that are not finite, 0 if there
/// are none. The magnitude means nothing if there are any.
struct Magnitude {
  double largest;
  double special;
};

/// Writes a channel's magnitudes.
inline void put_magnitudes(const ExactChannels& to, std::int64_t c, const Magnitude& first,
                           const Magnitude& second) {
  to.magnitude(0, c) = std::bit_cast<std::uint64_t>(first.largest);
  to.magnitude(1, c) = std::bit_cast<std::uint64_t>(second.largest);
  const auto bits = [](double special) { return special == 0 ? 0 : bits_of_special(special); };
  to.magnitude(2, c) = bits(first.special) | bits(second.special) << special_bits;
}

}  // namespace syncbn::channels
