// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions take the phases on a range of channels, with memory of the layer's and arguments
// that have been validated. What they compute is in syncbn/phases.hpp.

#include <cstdint>
#include <optional>
#include <span>

#include "syncbn/phases.hpp"

#include "bn/arguments.hpp"
#include "channels/finalize.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::bn {

using kernels::ChannelRange;

inline ChannelRange all_channels(const ConstTensorView& x) {
  return {0, x.shape().c};
}

/// Returns the elements per channel of this shard: N * S, or the sum of the weights. Throws
/// InvalidArgument unless there are N * S weights, all finite and at least 0.
double count_of(const ConstTensorView& x, PositionWeights position_weights);

/// Fills sums[c] and sums[C + c].
void forward_sums(const ConstTensorView& x, const ChannelRange& channels,
                  PositionWeights position_weights, std::span<const double> pivot,
                  std::span<double> sums, Backend backend, kernels::Scratch& scratch);

/// Computes mean, var and invstd of these channels from the group's sums, and the count.
void finalize(const ChannelRange& channels, std::span<const double> sums, const double* pivot,
              double eps, const channels::StatisticsArrays& out);
/// Computes scale and shift of these channels from their invstd. Without affine, gamma and beta are
/// null.
void set_affine(const ChannelRange& channels, const channels::Floats& gamma,
                const channels::Floats& beta, const channels::StatisticsArrays& out);

// These run a kernel for a range of channels. Channels whose invstd or scale leaves the range of
// float get the reference kernel, which computes in double, the others that of `backend`.

void normalize(const kernels::Normalize& arguments, const ChannelRange& channels,
               const double* invstd, Backend backend, kernels::Scratch& scratch);
void backward_sums(const kernels::BackwardSums& arguments, const ChannelRange& channels,
                   const double* invstd, Backend backend, kernels::Scratch& scratch);
void input_gradient(const kernels::InputGradient& arguments, const ChannelRange& channels,
                    const double* invstd, Backend backend, kernels::Scratch& scratch);

/// Returns whether a backward or normalize with float coefficients would leave float's range.
bool leaves_float(double invstd, double scale);

/// Calls run(kernels, part) for one part of the channels after the other, each with the kernels
/// that are right for it.
template <class Run>
void in_range_of(DType dtype, Backend backend, const ChannelRange& channels, const double* invstd,
                 const double* scale, Run run) {
  const auto leaves = [&](std::int64_t c) {
    return dtype != DType::f64 && leaves_float(invstd[c], scale[c]);
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

}  // namespace syncbn::bn
