// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn::comm {

/// The number of doubles by which a message carries a fingerprint: its four 16-bit pieces, then
/// their squares.
inline constexpr std::size_t fingerprint_words = 8;

/// Returns the i-th of these doubles.
SYNCBN_HOST_DEVICE inline double fingerprint_word(std::uint64_t fingerprint, std::size_t i) {
  const auto piece = static_cast<double>((fingerprint >> (16 * (i % 4))) & 0xffff);
  return i < 4 ? piece : piece * piece;
}

/// Returns whether all of P = `ranks` ranks have the fingerprint `own`; `summed` are their words,
/// added up. If sum(h_r) = P h and sum(h_r^2) = P h^2 for a piece, then sum((h_r - h)^2) = 0 and
/// all h_r are h. Exact for up to 2^21 ranks, as P h^2 is below 2^53.
SYNCBN_HOST_DEVICE inline bool all_equal(const double* summed, std::uint64_t own, int ranks) {
  bool equal = true;
  for (std::size_t i = 0; i < fingerprint_words; ++i) {
    equal = equal && summed[i] == ranks * fingerprint_word(own, i);
  }
  return equal;
}

}  // namespace syncbn::comm
