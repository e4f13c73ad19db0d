// SPDX-License-Identifier: Apache-2.0
#pragma once

// Walks over a block plane by plane, for kernels that add up the elements of each channel.
//
// One stream of loads does not keep memory busy: the processor's prefetching stops at the end of
// every page. The walk therefore advances by turns at several places of a block, its strands, and
// apart from that goes in the order of memory.

#include <cstdint>

#include "kernels/cpu/partition.hpp"

namespace syncbn::kernels::cpu {

/// The most strands that a kernel takes together.
inline constexpr std::int64_t most_strands = 4;

/// Runs of elements, all of the same size: `count` runs of one channel, and as many of each channel
/// behind it. Distances and sizes are in elements.
struct Strands {
  std::int64_t count;  ///< strands of a channel: as many as the kernel takes together, or 1
  std::int64_t i;      ///< index of the first strand's first element
  std::int64_t apart;  ///< from a strand to the next
  std::int64_t size;   ///< of each strand
  std::int64_t channels;
  std::int64_t plane;    ///< from a channel to the next
  const float* weights;  ///< null, or the first strand's
  std::int64_t weights_apart;

  /// Tells whether `elements` more can be read behind the end of a channel's strands.
  bool has_behind(std::int64_t channel, std::int64_t elements) const {
    return (channels - 1 - channel) * plane >= elements;
  }
};

/// Calls run(strands) for all of a block: for `together` strands at a time as far as possible, and
/// one by one for what remains. `weight` is null or the weights of all positions.
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
  // The strands share the rows evenly, and then each plane of the rows that remain.
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
