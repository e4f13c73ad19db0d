// SPDX-License-Identifier: Apache-2.0
#pragma once

// The walk plane by plane, in the order of memory but for strands, for kernels that add up what
// there is in each channel.
//
// One stream of loads does not keep memory busy: the processor's prefetching stops at the end of
// every page. The walk therefore advances at several places of a block by turns.

#include <cstdint>

#include "kernels/cpu/partition.hpp"

namespace syncbn::kernels::cpu {

/// Most strands that go together.
inline constexpr std::int64_t most_strands = 4;

/// Runs of elements, all of the same size: some of one channel, and as many of each channel behind
/// it.
struct Strands {
  std::int64_t count;  ///< of a channel
  std::int64_t i;      ///< index of the first one's first element
  std::int64_t apart;  ///< from one to the next
  std::int64_t size;   ///< of each
  std::int64_t channels;
  std::int64_t plane;    ///< from a channel to the next
  const float* weights;  ///< null, or the first one's
  std::int64_t weights_apart;

  /// Whether `elements` can be read at the end of a channel's strands.
  bool has_behind(std::int64_t channel, std::int64_t elements) const {
    return (channels - 1 - channel) * plane >= elements;
  }
};

/// Calls run(strands) for all of a block: for `together` strands of its channels as far as
/// possible, and for what remains one by one. `weight`: null, or the weights of all positions.
template <class Run>
void plane_by_plane(const Planes& planes, const Planes::Block& block, const float* weight,
                    std::int64_t step, std::int64_t together, const Run& run) {
  const std::int64_t plane = planes.extents().plane;
  const std::int64_t size = block.plane.size();
  const auto at = [&](std::int64_t count, std::int64_t row, std::int64_t s, std::int64_t length,
                      std::int64_t apart, std::int64_t weights_apart) {
    const std::int64_t begin = block.plane.begin + s;
    run(Strands{count, planes.index(row, block.channels.begin, begin), apart, length,
                block.channels.size(), plane,
                weight == nullptr ? nullptr : weight + row * plane + begin, weights_apart});
  };
  // Strands share out the rows evenly, and those that remain each plane.
  const std::int64_t rows = block.rows.size() / together;
  std::int64_t row = block.rows.begin;
  for (; row < block.rows.begin + rows; ++row) {
    at(together, row, 0, size, planes.index(rows, 0, 0), rows * plane);
  }
  const std::int64_t piece = size / (together * step) * step;
  for (row = block.rows.begin + together * rows; row < block.rows.end; ++row) {
    if (piece > 0) {
      at(together, row, 0, piece, piece, piece);
    }
    at(1, row, together * piece, size - together * piece, 0, 0);
  }
}

}  // namespace syncbn::kernels::cpu
