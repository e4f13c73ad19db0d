// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn::comm {

/// What a fingerprint adds to a message: its four 16-bit pieces, then their squares.
inline constexpr std::size_t fingerprint_words = 8;

/// The i-th of them.
SYNCBN_HOST_DEVICE inline double fingerprint_word(std::uint64_t fingerprint, std::size_t i) {
  const auto piece = static_cast<double>((fingerprint >> (16 * (i % 4))) & 0xffff);
  return i < 4 ? piece : piece * piece;
}

/// Whether the sum of `ranks` ranks' words is the sum of equal words. sum(h) = P h and
/// sum(h^2) = P h^2 together leave no room for unequal h: the sum of (h_r - h)^2 would be 0.
/// Exact for up to 2^21 ranks.
SYNCBN_HOST_DEVICE inline bool all_equal(const double* summed, std::uint64_t own, int ranks) {
  bool equal = true;
  for (std::size_t i = 0; i < fingerprint_words; ++i) {
    equal = equal && summed[i] == ranks * fingerprint_word(own, i);
  }
  return equal;
}

}  // namespace syncbn::comm
