// SPDX-License-Identifier: Apache-2.0
#include "bn/exact_count.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace syncbn::bn {

CountLimbs count_exactly(const ConstTensorView& x, Weight weight) {
  constexpr int smallest = 149;  // 2^-149 is the smallest float
  std::array<std::int64_t, std::tuple_size_v<CountLimbs>> limbs{};
  const auto add = [&](std::uint64_t mantissa, int place) {  // of up to 24 bits
    const std::uint64_t shifted = mantissa << (place % 32);
    limbs[static_cast<std::size_t>(place / 32)] += static_cast<std::int64_t>(shifted & 0xFFFFFFFF);
    limbs[static_cast<std::size_t>(place / 32) + 1] += static_cast<std::int64_t>(shifted >> 32);
  };
  const auto carry = [&] {
    for (std::size_t i = 0; i + 1 < limbs.size(); ++i) {
      limbs[i + 1] += limbs[i] >> 32;
      limbs[i] &= 0xFFFFFFFF;
    }
  };
  if (weight.empty()) {
    const auto positions = static_cast<std::uint64_t>(x.shape().per_channel());
    for (int bit = 0; bit < 64; bit += 24) {
      add(positions >> bit & 0xFFFFFF, smallest + bit);
    }
  }
  constexpr std::size_t between_carries = std::size_t{1} << 30;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(weight[i]);
    const std::uint32_t exponent = bits >> 23 & 0xFF;
    const std::uint32_t fraction = bits & 0x7FFFFF;
    if (exponent == 0) {
      add(fraction, 0);
    } else {
      add(fraction | 0x800000, static_cast<int>(exponent) - 1);
    }
    if (i % between_carries == between_carries - 1) {
      carry();
    }
  }
  carry();
  CountLimbs result{};
  std::ranges::transform(limbs, result.begin(),
                         [](std::int64_t limb) { return static_cast<double>(limb); });
  return result;
}

double to_count(const CountLimbs& limbs) {
  std::int64_t carry = 0;
  CountLimbs carried_limbs{};
  for (std::size_t i = 0; i < limbs.size(); ++i) {
    const std::int64_t limb = static_cast<std::int64_t>(limbs[i]) + carry;
    carry = limb >> 32;
    carried_limbs[i] = static_cast<double>(limb & 0xFFFFFFFF);
  }
  double count = 0;
  for (std::size_t i = limbs.size(); i-- > 0;) {
    count += std::ldexp(carried_limbs[i], 32 * static_cast<int>(i) - 149);
  }
  return count;
}

}  // namespace syncbn::bn
