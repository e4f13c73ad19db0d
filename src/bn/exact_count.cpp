// SPDX-License-Identifier: Apache-2.0
#include "bn/exact_count.hpp"

#include <algorithm>
#include <cstdint>

namespace syncbn::bn {

CountWords count_exactly(const ConstTensorView& x, Weight weight) {
  std::array<std::int64_t, kernels::count_words> limbs{};
  const auto add = [&](int limb, std::int64_t part) {
    limbs[static_cast<std::size_t>(limb)] += part;
  };
  if (weight.empty()) {
    kernels::split_positions_into_limbs(x.shape().per_channel(), add);
  }
  constexpr std::size_t between_carries = std::size_t{1} << 30;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    kernels::split_weight_into_limbs(weight[i], add);
    if (i % between_carries == between_carries - 1) {
      kernels::carry(limbs.data());
    }
  }
  kernels::carry(limbs.data());
  CountWords result{};
  std::ranges::transform(limbs, result.begin(),
                         [](std::int64_t limb) { return static_cast<double>(limb); });
  return result;
}

double to_count(const CountWords& words) {
  return kernels::to_count(words.data());
}

double to_terms(const CountWords& words) {
  return words[kernels::terms_word];
}

}  // namespace syncbn::bn
