// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header says what each kernel computes. The arguments have been validated: shapes and types
// agree, data is there. Sums over the elements of channel c run over all samples and positions.
//
// The arguments are the same on the CPU and on a CUDA device (cuda/cuda.hpp), which does all
// channels at once. On the CPU a kernel does the channels of a range and reads and writes nothing
// of the others. Arrays marked [C] are indexed by the channel's number in the tensor.
//
// Results of any backend here do not depend on the number of threads or on how channels are split
// into ranges: work is cut by the tensor's shape alone and partial sums are added in a fixed order.
// Two things are excepted: sums over so few channels that several rows share a vector
// (cpu/partition.hpp), and which NaN a NaN is. Results may depend on the instruction set, within
// rounding.

#include <cstdint>

#include "syncbn/backend.hpp"
#include "syncbn/tensor_view.hpp"

#include "channels/channel_range.hpp"
#include "channels/exact_channels.hpp"
#include "kernels/scratch.hpp"

namespace syncbn::kernels {

using channels::ChannelRange;

/// Says how a kernel goes about its work; nothing here changes a result.
struct Run {
  Scratch& scratch;
  /// Writes go past the cache, for tensors that do not fit in it beside the tensors that they are
  /// computed from.
  bool stream = false;
};

/// Computes sums[c] = sum(w (x - pivot[c])) and sums[C + c] = sum(w (x - pivot[c])^2), on the CPU
/// with differences, squares and sums in double. For f16 and bf16, terms are computed in float and
/// added in float in short runs, so that a term is rounded at most 13 times (12 without weights),
/// counting its own computation; runs are added in double. Without weights w = 1. Where w = 0, x
/// has no influence, even if it is a NaN.
struct ForwardSums {
  ConstTensorView x;
  const float* weight;  ///< null, or [N, S]
  const double* pivot;  ///< [C]
  double* sums;         ///< [2C] written, on a device [2C + 1]
};

/// Computes y from
///   z = (x - mean[c]) * scale[c] + shift[c] [+ residual],  y = z < 0 ? negative_slope * z : z,
/// where a slope of 0 gives exactly 0. Where the weight is 0, y is 0.
///
/// f32, f16 and bf16 are computed in float with the mean as a pair mean_hi + mean_lo of floats, so
/// that ((x - mean_hi) - mean_lo) loses nothing to a mean far larger than the spread; f64 is
/// computed in double. A NaN stays one.
struct Normalize {
  ConstTensorView x;
  const float* weight;   ///< null, or [N, S]
  const double* mean;    ///< [C]
  const double* scale;   ///< [C] gamma * invstd
  const double* shift;   ///< [C] beta
  const void* residual;  ///< null, or of x's shape, type and layout
  double negative_slope;
  void* y;  ///< of x's shape, type and layout; may be x or residual
};

/// Says what a backward kernel gets x - mean from.
enum class Source : std::uint8_t {
  input,   ///< `data` is x
  output,  ///< `data` is y = activation(z) without a residual, and x - mean = (z - shift) / scale,
           ///< 0 with a scale of 0
};

/// Holds what the gradient dz with respect to z, the activation's input, is computed from: dz = dy
/// where a value passed the activation unchanged, negative_slope * dy elsewhere (with a slope of 0
/// exactly 0). "Unchanged" is !(y <= 0); y is recomputed from x by the very arithmetic of Normalize
/// where it is not given. Where the weight is 0, dz = 0.
struct Upstream {
  ConstTensorView data;
  Source source;
  const float* weight;  ///< null, or [N, S]
  const void* dy;       ///< of x's shape, type and layout
  const void* y;        ///< null, or of x's shape, type and layout; not read with a slope of 1
  const double* mean;   ///< [C]
  const double* scale;  ///< [C]
  const double* shift;  ///< [C]
  double negative_slope;
};

/// Computes sums[c] = sum(dz) and sums[C + c] = sum(dz * (x - mean[c])), on the CPU with products
/// and sums in double; for f16 and bf16 as in ForwardSums.
struct BackwardSums {
  Upstream upstream;
  double* sums;  ///< [2C] written, on a device [2C + 1]
};

/// Computes dx = scale[c] * (dz - w (mean_dz[c] + (x - mean[c]) * grad_slope[c])) and dresidual =
/// dz. `grad_slope` is not the activation's but the factor of x - mean.
struct InputGradient {
  Upstream upstream;
  const double* mean_dz;     ///< [C] sum(dz) / n of the group
  const double* grad_slope;  ///< [C] sum(dz (x - mean)) / n * invstd^2 of the group
  void* dx;                  ///< of x's shape, type and layout; may be dy
  void* dresidual;  ///< null, or of x's shape, type and layout; may be dy (then dx may not)
};

/// The functions of one backend on the CPU.
struct Kernels {
  void (*forward_sums)(const ForwardSums&, const ChannelRange&, const Run&);
  void (*normalize)(const Normalize&, const ChannelRange&, const Run&);
  void (*backward_sums)(const BackwardSums&, const ChannelRange&, const Run&);
  void (*input_gradient)(const InputGradient&, const ChannelRange&, const Run&);

  // These take the same sums with terms of double in fixed point, into the channels' tallies: their
  // bits are the same in whatever order and in however many parts they are taken. The arguments'
  // own sums are not written.
  void (*forward_in_fixed_point)(const ForwardSums&, const ChannelRange&,
                                 const channels::ExactChannels&, const Run&);
  void (*backward_in_fixed_point)(const BackwardSums&, const ChannelRange&,
                                  const channels::ExactChannels&, const Run&);
  // These find how large the terms are, which tells what windows the sums in fixed point need.
  void (*forward_magnitudes)(const ForwardSums&, const ChannelRange&,
                             const channels::ExactChannels&, const Run&);
  void (*backward_magnitudes)(const BackwardSums&, const ChannelRange&,
                              const channels::ExactChannels&, const Run&);

  /// Returns how many bytes a pass over memory may leave in the cache for the next pass to find.
  std::int64_t (*cache_bytes)();
  /// Returns the fewest channels worth doing at a time: enough that memory is read in long
  /// stretches, or all channels.
  std::int64_t (*least_channels)(const ConstTensorView& x);
};

/// Returns the functions of a backend. Nothing else looks at a Backend.
const Kernels& select(Backend backend);

}  // namespace syncbn::kernels
