// SPDX-License-Identifier: Apache-2.0
#pragma once

// Weights are added up without rounding: their sum is an integer in units of the smallest float,
// 2^-149, in limbs of 32 bits; beside it stands how many weights are not 0. All of this is the same
// on the host and in a kernel.

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn::channels {

inline constexpr int count_limbs = 10;
/// The number of words in a count: its limbs, and behind them the number of weights that are not 0.
inline constexpr int count_words = count_limbs + 1;
inline constexpr int terms_word = count_limbs;
using CountLimbs = std::array<std::int64_t, count_words>;
inline constexpr int smallest_place = 149;

/// Splits mantissa * 2^place units into limbs, and calls add(word, part) for each, with parts below
/// 2^32. The mantissa is below 2^24.
template <class Add>
SYNCBN_HOST_DEVICE void split_mantissa_into_limbs(std::uint64_t mantissa, int place, Add add) {
  const std::uint64_t shifted = mantissa << (place % 32);
  add(place / 32, static_cast<std::int64_t>(shifted & 0xFFFFFFFF));
  add(place / 32 + 1, static_cast<std::int64_t>(shifted >> 32));
}

/// Calls add(word, part) for the words of a weight, finite and at least 0. It counts as a term
/// unless it is 0.
template <class Add>
SYNCBN_HOST_DEVICE void split_weight_into_limbs(float weight, Add add) {
  const auto bits = std::bit_cast<std::uint32_t>(weight);
  const std::uint32_t exponent = bits >> 23 & 0xFF;
  const std::uint32_t fraction = bits & 0x7FFFFF;
  add(terms_word, (exponent | fraction) != 0 ? std::int64_t{1} : std::int64_t{0});
  if (exponent == 0) {
    split_mantissa_into_limbs(fraction, 0, add);
  } else {
    split_mantissa_into_limbs(fraction | 0x800000, static_cast<int>(exponent) - 1, add);
  }
}

/// Calls add(word, part) for the words of `positions` weights of 1, each of which is a term.
template <class Add>
SYNCBN_HOST_DEVICE void split_positions_into_limbs(std::int64_t positions, Add add) {
  add(terms_word, positions);
  for (int bit = 0; bit < 64; bit += 24) {
    const auto part = static_cast<std::uint64_t>(positions) >> bit & 0xFFFFFF;
    split_mantissa_into_limbs(part, smallest_place + bit, add);
  }
}

/// Makes every limb but the last one less than 2^32.
SYNCBN_HOST_DEVICE inline void carry(std::int64_t* limbs) {
  for (int i = 0; i + 1 < count_limbs; ++i) {
    limbs[i + 1] += limbs[i] >> 32;
    limbs[i] &= 0xFFFFFFFF;
  }
}

/// Counts `size` weights without rounding; where `weight` is null, each is 1.
inline CountLimbs count_weights(const float* weight, std::int64_t size) {
  CountLimbs limbs{};
  const auto add = [&](int limb, std::int64_t part) {
    limbs[static_cast<std::size_t>(limb)] += part;
  };
  if (weight == nullptr) {
    split_positions_into_limbs(size, add);
    return limbs;
  }
  constexpr std::int64_t between_carries = std::int64_t{1} << 30;
  for (std::int64_t i = 0; i < size; ++i) {
    split_weight_into_limbs(weight[i], add);
    if (i % between_carries == between_carries - 1) {
      carry(limbs.data());
    }
  }
  carry(limbs.data());
  return limbs;
}

/// Returns the sum of weights that these limbs stand for; they are integers stored as doubles. The
/// rounding does not depend on which rank had which weights. Limbs of a message that failed are
/// NaN, and so is the count.
SYNCBN_HOST_DEVICE inline double to_count(const double* limbs) {
  if (std::isnan(limbs[0])) {
    return limbs[0];
  }
  std::int64_t carried[count_limbs];
  for (int i = 0; i < count_limbs; ++i) {
    carried[i] = static_cast<std::int64_t>(limbs[i]);
  }
  carry(carried);
  double count = 0;
  for (int i = count_limbs; i-- > 0;) {
    count += std::ldexp(static_cast<double>(carried[i]), 32 * i - smallest_place);
  }
  return count;
}

}  // namespace syncbn::channels
