// SPDX-License-Identifier: Apache-2.0
#pragma once

// The phases on a CUDA device: the kernels of kernels.hpp, and between them what is done once per
// channel. A group's forward and backward are
//
//   forward_sums  -> (sums added over the group) -> finalize          -> normalize
//   backward_sums -> (sums added over the group) -> finalize_backward -> input_gradient
//
// All pointers are of device memory, tensor views too, and stay the caller's. Every function puts
// its work on `stream` and returns; it does not wait, allocate or copy anything, so that it may be
// captured in a graph. Arguments have been validated. DeviceError is thrown if work cannot be
// launched. A build without CUDA throws NotConfigured.
//
// Results depend neither on the device nor on how its blocks are scheduled: the same bits in every
// run. Tensors need be aligned to their elements only; those aligned to 16 bytes (and of a number
// of channels and a plane that make whole vectors of that) are read and written fastest.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "syncbn/tensor_view.hpp"

#include "kernels/kernels.hpp"

struct CUstream_st;

namespace syncbn::kernels::cuda {

/// cudaStream_t
using Stream = CUstream_st*;

/// Device memory, aligned to 16 bytes, that either kind of sums needs for tensors like these, and
/// that nothing else may use until their work is done. Holds nothing before and after.
std::size_t workspace_bytes(const Shape& shape, DType dtype, Layout layout);

/// sums[c] = sum(w (x - pivot[c])), sums[C + c] = sum(w (x - pivot[c])^2), sums[2C] = the number of
/// elements per channel, or the sum of the weights. Terms of other types than f64 are of float and
/// added in float until one has been rounded 11 times at most; sums of these are of double. Where
/// w = 0, x is not looked at. One read of x.
struct ForwardSums {
  ConstTensorView x;
  const float* weight;  ///< null, or [N, S]
  const double* pivot;  ///< [C]
  double* sums;         ///< [2C + 1] written
  void* workspace;      ///< workspace_bytes
};
void forward_sums(const ForwardSums& arguments, Stream stream);

/// Running statistics, kept on the device. A batch of no element does not move them, nor the number
/// of batches; one of a single element moves the mean only.
struct Running {
  double* mean;                    ///< [C]
  double* var;                     ///< [C] unbiased
  double* start_mean;              ///< [C] before the first batch: written while there is none
  double* start_var;               ///< [C] likewise
  std::int64_t* batches;           ///< [1]
  std::optional<double> momentum;  ///< none: cumulative average
};

/// Statistics from the group's sums. With a count of 0: mean = pivot, var = 0.
struct Finalize {
  std::int64_t channels;
  const double* sums;  ///< [2C + 1]
  DType dtype;         ///< of x
  /// [C] that the sums are about, rounded to float for other types than f64; becomes the one for
  /// the next (next_pivot in kernels/statistics.hpp), or where no running mean is kept the mean.
  double* pivot;
  double eps;
  const double* gamma;         ///< [C], or null for 1
  const double* beta;          ///< [C], or null for 0
  double* mean;                ///< [C] written
  double* var;                 ///< [C] written, biased
  double* invstd;              ///< [C] written
  double* scale;               ///< [C] written: gamma * invstd
  double* shift;               ///< [C] written: beta
  double* next_var = nullptr;  ///< or [C], of exact sums: what the next batch's is expected to be
  std::optional<Running> running;
};
void finalize(const Finalize& arguments, Stream stream);

/// A fingerprint of what a channel's next sums follow from and of its parameters, for the ranks to
/// compare.
struct History {
  std::int64_t channels;
  const double* pivot;         ///< [C]
  const double* running_mean;  ///< null, or [C]
  const double* running_var;   ///< likewise
  const double* gamma;         ///< likewise
  const double* beta;          ///< likewise
  std::uint64_t* print;        ///< [1] written: history_of all channels, and parameters, added up
};
void fingerprint(const History& arguments, Stream stream);

/// scale = gamma / sqrt(var + eps) and shift = beta, for Normalize with running statistics.
struct Affine {
  std::int64_t channels;
  const double* var;  ///< [C]
  double eps;
  const double* gamma;  ///< [C], or null for 1
  const double* beta;   ///< [C], or null for 0
  double* invstd;       ///< null, or [C] written
  double* scale;        ///< [C] written
  double* shift;        ///< [C] written
};
void affine(const Affine& arguments, Stream stream);

/// kernels::Normalize of all channels. One read of x (and residual), one write of y.
struct Normalize {
  ConstTensorView x;
  const float* weight;   ///< null, or [N, S]
  const double* mean;    ///< [C]
  const double* scale;   ///< [C]
  const double* shift;   ///< [C]
  const void* residual;  ///< null, or of x's shape, type and layout
  double negative_slope;
  void* y;  ///< of x's shape, type and layout; may be x or residual
};
void normalize(const Normalize& arguments, Stream stream);

/// sums[c] = sum(dz), sums[C + c] = sum(dz * (x - mean[c])), sums[2C] as in ForwardSums. Terms and
/// sums of them as there. One read of x and dy (and y).
struct BackwardSums {
  Upstream upstream;
  double* sums;     ///< [2C + 1] written
  void* workspace;  ///< workspace_bytes
};
void backward_sums(const BackwardSums& arguments, Stream stream);

/// What input_gradient needs, and the parameters' gradients, from the group's sums.
struct FinalizeBackward {
  std::int64_t channels;
  const double* sums;    ///< [2C + 1] of the group
  const double* invstd;  ///< [C]
  const double*
      own_sums;     ///< [2C + 1] that the parameters' gradients are of: the shard's, or `sums`
  bool frozen;      ///< the statistics are no function of x: mean_dz and slope are 0
  double* mean_dz;  ///< [C] written
  double* slope;    ///< [C] written
  double* dgamma;   ///< null, or [C] added to
  double* dbeta;    ///< null, or [C] added to
};
void finalize_backward(const FinalizeBackward& arguments, Stream stream);

/// kernels::InputGradient of all channels. One read of x and dy (and y), one write of dx (and
/// dresidual).
struct InputGradient {
  Upstream upstream;
  const double* mean_dz;  ///< [C]
  const double* slope;    ///< [C]
  void* dx;               ///< of x's shape, type and layout; may be dy
  void* dresidual;        ///< null, or of x's shape, type and layout; may be dy (then dx may not)
};
void input_gradient(const InputGradient& arguments, Stream stream);

}  // namespace syncbn::kernels::cuda
