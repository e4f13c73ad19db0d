// SPDX-License-Identifier: Apache-2.0
#pragma once

// A block's threads need the coefficients of their channels, which are computed from arrays of
// doubles. With Columns, many threads have the same channels: the block computes each channel's
// once, and its threads take theirs from shared memory.

#include <cstdint>

#include "core/host_device.hpp"

#include "kernels/cuda/walk.hpp"

namespace syncbn::kernels::cuda {

/// Holds, in shared memory, the coefficients of the channels of a block.
template <VectorReader Reader, TensorWalk Walk>
class ChannelCoefficients {
 public:
  using Coefficients = typename Reader::Coefficients;

  template <class Block>
  SYNCBN_HOST_DEVICE void prepare(const Block& block, const Reader& reader, const Walk& walk) {
    const std::int64_t first = walk.first_channel(block.index());
    const int channels = walk.tile_channels(block.index());
    block.every_thread([&](int thread) {
      for (int c = thread; c < channels; c += block_threads) {
        at_[place(c)] = reader.coefficients(first + c);
      }
    });
  }

  /// Writes the coefficients of each element of a thread's vectors to k[0] and so on.
  SYNCBN_HOST_DEVICE void get(const Reader&, const Walk& walk, std::int64_t block, int thread,
                              Coefficients* k) const {
    const int last = walk.tile_channels(block) - 1;
    SYNCBN_UNROLL
    for (int i = 0; i < Walk::sets; ++i) {
      const int c = walk.channel_of_tile(thread, i);
      k[i] = at_[place(c < last ? c : last)];
    }
  }

 private:
  /// Returns where channel c of the tile is: threads side by side read places side by side.
  SYNCBN_HOST_DEVICE static int place(int c) {
    return c % Walk::vector * Walk::wide + c / Walk::vector;
  }

  Coefficients at_[Walk::most_channels];
};

/// With Planes, a block has one channel, whose coefficients each thread computes.
template <VectorReader Reader, int kVector>
class ChannelCoefficients<Reader, Planes<kVector>> {
 public:
  using Coefficients = typename Reader::Coefficients;

  template <class Block>
  SYNCBN_HOST_DEVICE void prepare(const Block&, const Reader&, const Planes<kVector>&) {}

  SYNCBN_HOST_DEVICE void get(const Reader& reader, const Planes<kVector>& walk, std::int64_t block,
                              int thread, Coefficients* k) const {
    k[0] = reader.coefficients(walk.channel(block, thread, 0));
  }
};

}  // namespace syncbn::kernels::cuda
