// SPDX-License-Identifier: Apache-2.0
#pragma once

// What each kernel computes. The arguments have been validated: shapes and types agree, data is
// there. Sums over the elements of channel c run over all samples and positions.
//
// A kernel does the channels of a range and reads and writes nothing of the others. Arrays marked
// [C] are indexed by the channel's number in the tensor.
//
// Every backend gives a result that depends neither on the number of threads nor on how the
// channels were cut into ranges (but for sums over channels so few that several rows of them lie
// abreast, see cpu/partition.hpp; and a NaN may be another NaN): work is cut into parts by the
// tensor's shape alone, and their sums are added in a fixed order. It may depend on the instruction
// set, within rounding.

#include <cstdint>

#include "syncbn/backend.hpp"
#include "syncbn/tensor_view.hpp"

#include "kernels/fixed_point.hpp"
#include "kernels/scratch.hpp"

namespace syncbn::kernels {

/// Channels [begin, end).
struct ChannelRange {
  std::int64_t begin;
  std::int64_t end;

  std::int64_t size() const { return end - begin; }
  friend bool operator==(const ChannelRange&, const ChannelRange&) = default;
};

/// How to go about it; nothing here changes a result.
struct Run {
  Scratch& scratch;
  /// Write past the cache: for tensors that do not fit in it together with what they are made of.
  bool stream = false;
};

/// sum[c] = sum(w (x - pivot[c])), sum_sq[c] = sum(w (x - pivot[c])^2), with differences, squares
/// and sums in double. Of 16-bit types terms are of float, and added in float until one has been
/// rounded 13 times, those of forming it included (12 times without weights); sums of these are of
/// double. Without weights w = 1. Where w = 0, x is not looked at.
struct ForwardSums {
  ConstTensorView x;
  ChannelRange channels;
  const float* weight;  ///< null, or [N, S]
  const double* pivot;  ///< [C]
  double* sum;          ///< [C] written
  double* sum_sq;       ///< [C] written
};

/// z = (x - mean[c]) * scale[c] + shift[c] [+ residual],  y = z < 0 ? negative_slope * z : z; with
/// a slope of 0 exactly 0. y = 0 where the weight is 0.
///
/// f32, f16 and bf16 compute in float with the mean as a pair mean_hi + mean_lo of floats, so that
/// ((x - mean_hi) - mean_lo) loses nothing to a mean far larger than the spread; f64 in double.
/// A NaN stays one.
struct Normalize {
  ConstTensorView x;
  ChannelRange channels;
  const float* weight;   ///< null, or [N, S]
  const double* mean;    ///< [C]
  const double* scale;   ///< [C] gamma * invstd
  const double* shift;   ///< [C] beta
  const void* residual;  ///< null, or of x's shape, type and layout
  double negative_slope;
  void* y;  ///< of x's shape, type and layout; may be x or residual
};

/// Where x comes from that a backward kernel needs.
enum class Source : std::uint8_t {
  input,   ///< `data` is x
  output,  ///< `data` is y = activation(z) without a residual, and x - mean = (z - shift) / scale,
           ///< 0 with a scale of 0
};

/// The gradient behind the activation: dz = dy where a value passed the activation unchanged,
/// negative_slope * dy elsewhere; with a slope of 0 exactly 0. "Unchanged" is !(y <= 0), with y
/// recomputed from x by the very arithmetic of Normalize where it is not given. dz = 0 where the
/// weight is 0.
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

/// sum_dz[c] = sum(dz), sum_dz_x[c] = sum(dz * (x - mean[c])), products and sums in double, or as
/// ForwardSums those of 16-bit types.
struct BackwardSums {
  Upstream upstream;
  ChannelRange channels;
  double* sum_dz;    ///< [C] written
  double* sum_dz_x;  ///< [C] written
};

/// dx = scale[c] * (dz - w (mean_dz[c] + (x - mean[c]) * slope[c])),  dresidual = dz.
struct InputGradient {
  Upstream upstream;
  ChannelRange channels;
  const double* mean_dz;  ///< [C] sum_dz / n of the group
  const double* slope;    ///< [C] sum_dz_x / n * invstd^2 of the group
  void* dx;               ///< of x's shape, type and layout; may be dy
  void* dresidual;        ///< null, or of x's shape, type and layout; may be dy (then dx may not)
};

/// One backend.
struct Kernels {
  void (*forward_sums)(const ForwardSums&, const Run&);
  void (*normalize)(const Normalize&, const Run&);
  void (*backward_sums)(const BackwardSums&, const Run&);
  void (*input_gradient)(const InputGradient&, const Run&);

  // The same sums with terms of double in fixed point: the same bits in whatever order and in
  // however many parts they are taken. The arguments' own sums are not written.
  void (*forward_in_fixed_point)(const ForwardSums&, const FixedPoint&, const Run&);
  void (*backward_in_fixed_point)(const BackwardSums&, const FixedPoint&, const Run&);
  // What windows they need.
  void (*forward_magnitudes)(const ForwardSums&, const Magnitudes&, const Run&);
  void (*backward_magnitudes)(const BackwardSums&, const Magnitudes&, const Run&);

  /// Bytes that a pass over memory may leave behind in the cache and the next one finds there.
  std::int64_t (*cache_bytes)();
  /// The fewest channels worth doing at a time: so many that whole stretches of memory are read,
  /// or all.
  std::int64_t (*least_channels)(const ConstTensorView& x);
};

/// The device switch: the only place that looks at a Backend.
const Kernels& select(Backend backend);

}  // namespace syncbn::kernels
