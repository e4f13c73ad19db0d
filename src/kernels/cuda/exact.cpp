// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/exact.hpp"

#include <bit>

namespace syncbn::kernels::cuda {

ExponentCode exponent_code(int ranks) {
  // Powers, and the sum of one power from each rank, stay normal numbers.
  constexpr int exponents_of_powers = 1960;
  const int bits = static_cast<int>(std::bit_width(static_cast<unsigned>(ranks)));
  const Digits digits{bits, exponents_of_powers / bits};
  constexpr int numbers = most_exponent - least_exponent;
  return {digits, (numbers + digits.count - 1) / digits.count};
}

std::array<std::int64_t, count_words> limbs_of(std::int64_t positions) {
  std::array<std::int64_t, count_words> limbs{};
  split_positions_into_limbs(positions, [&](int limb, std::int64_t part) {
    limbs[static_cast<std::size_t>(limb)] += part;
  });
  return limbs;
}

}  // namespace syncbn::kernels::cuda
