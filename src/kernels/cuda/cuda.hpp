// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions compute the phases on a CUDA device: the kernels of kernels.hpp, and between them
// what is done once per channel. A group's forward and backward are
//
//   forward_sums  -> (sums added over the group) -> finalize          -> normalize
//   backward_sums -> (sums added over the group) -> finalize_backward -> input_gradient
//
// All pointers, those of tensor views too, are to device memory, which stays the caller's. Every
// function puts its work on `stream` and returns; it does not wait, allocate or copy anything, so
// that it may be captured in a graph. Arguments have been validated. DeviceError is thrown if work
// cannot be launched. A build without CUDA or an emulated device throws NotConfigured.
//
// Results depend neither on the device nor on how its blocks are scheduled: every run gives the
// same bits. Tensors need only be aligned to their elements. Reads and writes are fastest for
// tensors that are aligned to 16 bytes and whose planes (from 256 elements on) or else rows,
// channels times plane, are whole vectors of 16 bytes.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "syncbn/tensor_view.hpp"

#include "channels/finalize.hpp"
#include "kernels/kernels.hpp"

struct CUstream_st;

namespace syncbn::kernels::cuda {

/// A Stream is a cudaStream_t.
using Stream = CUstream_st*;

/// Returns the bytes of device memory, aligned to 16 bytes, that forward_sums and backward_sums
/// need for tensors like these. Nothing else may use it until their work is done. It holds nothing
/// before and after.
std::size_t workspace_bytes(const Shape& shape, DType dtype, Layout layout);

/// Takes the sums, and sums[2C], the number of elements per channel or the sum of the weights. For
/// other types than f64, terms are of float and are added in float in runs so short that a term is
/// rounded 11 times at most, counting its own computation; runs are added in double. Where w = 0, x
/// is not looked at. `workspace` has workspace_bytes. One read of x.
void forward_sums(const ForwardSums& arguments, void* workspace, Stream stream);

/// A Running points to running statistics. A batch of no element moves neither them nor the number
/// of batches; one of a single element moves the mean only.
struct Running {
  channels::RunningStatistics<> arrays;
  std::int64_t* batches;           ///< [1]
  std::optional<double> momentum;  ///< none: cumulative average
};

/// Computes statistics from the group's sums. With a count of 0: mean = pivot, var = 0.
struct Finalize {
  std::int64_t channels;
  const double* sums;  ///< [2C + 1]
  DType dtype;         ///< of x
  /// [C] The sums are about this, rounded to float for other types than f64. It becomes the pivot
  /// of the next sums: next_pivot (channels/pivot.hpp), or the mean where no running mean is
  /// kept.
  double* pivot;
  double eps;
  channels::ConstFloats gamma;     ///< [C], or null for 1
  channels::ConstFloats beta;      ///< [C], or null for 0
  channels::StatisticsArrays out;  ///< written
  double* next_var = nullptr;      ///< null, or [C] written with exact sums: for the next windows
  std::optional<Running> running;
};
void finalize(const Finalize& arguments, Stream stream);

/// Takes a fingerprint of the parameters and of what the next sums follow from, for the ranks to
/// compare.
struct History {
  std::int64_t channels;
  const double* pivot;                 ///< [C]
  channels::ConstFloats running_mean;  ///< null, or [C]
  channels::ConstFloats running_var;   ///< null, or [C]
  channels::ConstFloats gamma;         ///< null, or [C]
  channels::ConstFloats beta;          ///< null, or [C]
  std::uint64_t* print;  ///< [1] written: the channels' history_of and parameters, added up
};
void fingerprint(const History& arguments, Stream stream);

/// Sets scale and shift, to normalize with statistics that are there already.
void run(const channels::SetAffineOfBatch& step, Stream stream);
/// Takes running statistics, to normalize with.
void run(const channels::TakeRunningStatistics& step, Stream stream);

/// Normalizes. One read of x (and residual), one write of y.
void normalize(const Normalize& arguments, Stream stream);

/// Takes the sums, and sums[2C], as forward_sums does: terms are rounded and added as there. One
/// read of x and dy (and y).
void backward_sums(const BackwardSums& arguments, void* workspace, Stream stream);

/// Computes what input_gradient needs, and the parameters' gradients, from the group's sums.
struct FinalizeBackward {
  std::int64_t channels;
  const double* sums;       ///< [2C + 1] of the group
  const double* invstd;     ///< [C]
  const double* own_sums;   ///< [2C + 1] sums for dgamma and dbeta: this rank's, or `sums`
  bool frozen;              ///< the statistics are no function of x: mean_dz and grad_slope are 0
  double* mean_dz;          ///< [C] written
  double* grad_slope;       ///< [C] written
  channels::Floats dgamma;  ///< null, or [C] added to
  channels::Floats dbeta;   ///< null with dgamma, or [C] added to
};
void finalize_backward(const FinalizeBackward& arguments, Stream stream);

/// Computes dx. One read of x and dy (and y), one write of dx (and dresidual).
void input_gradient(const InputGradient& arguments, Stream stream);

}  // namespace syncbn::kernels::cuda
