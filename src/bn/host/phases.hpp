// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions take the phases on a range of channels, with memory of the layer's and arguments
// that have been validated. What they compute is in syncbn/phases.hpp.

#include <cstdint>
#include <optional>
#include <span>

#include "syncbn/phases.hpp"

#include "bn/host/workspace.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::bn {

inline ChannelRange all_channels(const ConstTensorView& x) {
  return {0, x.shape().c};
}

/// Returns the elements per channel of this shard: N * S, or the sum of the weights. Throws
/// InvalidArgument unless there are N * S weights, all finite and at least 0.
double count_of(const ConstTensorView& x, PositionWeights position_weights);

/// Returns null for no weights.
inline const float* data_or_null(PositionWeights position_weights) {
  return position_weights.empty() ? nullptr : position_weights.data();
}

/// Returns into how many blocks to cut the channels, so that what the sums have read of a tensor
/// and its gradient is still in the cache when the second pass comes. 1 is not to cut them at all.
std::int64_t blocks_of(const ConstTensorView& x, Backend backend);

/// Returns the k-th of `blocks` blocks of `channels` channels.
ChannelRange block(std::int64_t channels, std::int64_t blocks, std::int64_t k);

/// Fills sums[c] and sums[C + c].
void forward_sums(const ConstTensorView& x, const ChannelRange& channels,
                  PositionWeights position_weights, std::span<const double> pivot,
                  std::span<double> sums, Backend backend, Workspace& working);

/// Computes these channels' statistics from the group's sums. `out` has room for all channels.
void finalize(const ChannelRange& channels, std::span<const double> sums,
              std::span<const double> pivot, double eps, Statistics& out);

void normalize(const ConstTensorView& x, const ChannelRange& channels, const Statistics& statistics,
               const Affine& affine, Activation activation,
               const std::optional<ConstTensorView>& residual, const TensorView& y,
               PositionWeights position_weights, Backend backend, Workspace& working);

/// Returns what a backward kernel needs to know of these channels. It is valid until the next call.
kernels::Upstream upstream_of(const BackwardContext& context, const ChannelRange& channels,
                              Workspace& working);

/// Returns whether the elements of a channel are to be computed in double, because with this
/// standard deviation (or gamma) the differences, coefficients or products may leave the range of
/// float. That happens to values near the ends of that range, unless eps is above them. Needs
/// working.scale.
bool leaves_float(std::size_t c, const Statistics& statistics, const Workspace& working);

/// Calls run(kernels, part) for one part of the channels after the other. Channels that leave the
/// range of float get the reference kernels, which compute in double, the others those of
/// `backend`.
template <class Run>
void in_range_of(DType dtype, Backend backend, const ChannelRange& channels,
                 const Statistics& statistics, const Workspace& working, Run run) {
  const auto leaves = [&](std::int64_t c) {
    return dtype != DType::f64 && leaves_float(static_cast<std::size_t>(c), statistics, working);
  };
  for (ChannelRange part{channels.begin, channels.begin}; part.begin < channels.end;
       part.begin = part.end) {
    const bool out = leaves(part.begin);
    while (part.end < channels.end && leaves(part.end) == out) {
      ++part.end;
    }
    run(kernels::select(out ? Backend::reference : backend), part);
  }
}

/// Fills sums[c] and sums[C + c].
void backward_sums(const BackwardContext& context, const ChannelRange& channels,
                   std::span<double> sums, Backend backend, Workspace& working);

/// `frozen` statistics are no function of x.
void input_gradient(const BackwardContext& context, const ChannelRange& channels,
                    std::span<const double> sums, bool frozen, const TensorView& dx,
                    const std::optional<TensorView>& dresidual, Backend backend,
                    Workspace& working);

}  // namespace syncbn::bn
