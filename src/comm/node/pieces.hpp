// SPDX-License-Identifier: Apache-2.0
#pragma once

// A message is cut into pieces, which travel one after the other, and a piece into slices, each of
// which one reducer sums.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "comm/node/shared.hpp"

namespace syncbn::comm::node {

/// Returns how many pieces a message of `length` values has: at least one.
inline std::uint64_t pieces_of(std::size_t length) {
  return std::max<std::size_t>(1, (length + piece_length - 1) / piece_length);
}

/// Returns how many values there are in a message's piece number `piece`, counted from its first.
inline std::size_t values_in_piece(std::size_t length, std::uint64_t piece) {
  return std::min(piece_length, length - piece * piece_length);
}

struct Slice {
  std::size_t begin, size;
};

/// Returns the slice of the reducer number `reducer` of `reducers`, of a piece of `values` values.
inline Slice slice_of(std::size_t values, std::size_t reducers, std::size_t reducer) {
  const std::size_t begin = values * reducer / reducers;
  return {begin, values * (reducer + 1) / reducers - begin};
}

}  // namespace syncbn::comm::node
