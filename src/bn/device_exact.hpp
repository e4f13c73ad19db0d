// SPDX-License-Identifier: Apache-2.0
#pragma once

// DeviceExact takes exact sums on a device. Windows, integers and decisions are those of
// exact_sums.hpp, but made on the device (kernels/cuda/exact.hpp), so that the host need not wait
// to learn which channels' sums are to be taken again. Every step that may be needed is put on the
// stream each time:
//
// clang-format off
// forward   tally x, all_reduce the sums                                   one read of x
//           twice: magnitudes, all_reduce the exponents, tally, all_reduce the sums again
// backward  tally x and dy, all_reduce the sums                            one read of x, dy
//           once: as in a forward
// clang-format on
//
// Repeats are always put on the stream, whether they turn out to be needed or not. Their kernels
// read only channels that need one (usually none), but their all-reduces always run: a forward has
// 5 messages and a backward 3. Lengths in doubles, without the exchange's own words
// (comm::DeviceSum::own_words):
//
// clang-format off
//   sums        4C + 11, backward 5C + 11, f64 4C more      integers below 2^53 (exact_pass.hpp)
//   exponents   2C (w + 1), w = 2 for one rank, 5 for 8, 12 for 1024               (exponent_code)
// clang-format on
//
// Here w is the number of doubles in which one largest exponent travels (ExponentCode::words).

#include <cstdint>

#include "comm/device/device_sum.hpp"
#include "cuda/device_buffer.hpp"
#include "kernels/cuda/exact.hpp"

namespace syncbn::bn {

/// Takes a layer's exact sums, and keeps what they need in device memory.
class DeviceExact {
 public:
  /// Makes room for a layer of `channels` in a group of `ranks` ranks. Local; waits for the device.
  DeviceExact(std::int64_t channels, int ranks);

  /// Forgets what windows would follow from: the variances and gradients of earlier steps. Waits
  /// for the stream.
  void forget(comm::Stream stream);

  /// Returns [C] the variances expected of the next batch, which finalize writes; negative before
  /// the first batch.
  double* var() const { return of_.var; }

  struct Forward {
    ConstTensorView x;
    const float* weight;          ///< null, or [N, S]
    const double* running_mean;   ///< [C] if pivot and windows follow from it, else null
    const double* running_var;    ///< [C], null with running_mean
    const std::int64_t* batches;  ///< [1] how many the running statistics hold
    double momentum;              ///< 1 for a cumulative average
    double eps;
    double* pivot;  ///< [C], moved where sums are taken again
    double* sums;   ///< [2C + 1] written: the group's sums
  };
  /// Collective. Puts the sums of x on `stream`.
  void sum(comm::DeviceSum& group, const comm::Descriptor& what, const Forward& arguments,
           comm::Stream stream);

  struct Backward {
    kernels::Upstream upstream;
    const double* invstd;  ///< [C]
    double* sums;          ///< [2C + 1] written: the group's sums
    double* own_sums;      ///< [2C + 1] this rank's sums; all but the count are written
  };
  /// Collective. Puts the sums of dz on `stream`.
  void sum(comm::DeviceSum& group, const comm::Descriptor& what, const Backward& arguments,
           comm::Stream stream);

 private:
  void count(const ConstTensorView& x, const float* weight, comm::Stream stream);
  template <class Tally, class Settle>
  void take(comm::DeviceSum& group, comm::Descriptor what, const Tally& tally, Settle settle,
            comm::Stream stream);

  kernels::cuda::ExponentCode code_;
  cuda::DeviceBuffer exponents_;  ///< [4, C] ints
  cuda::DeviceBuffer words_;      ///< 64 bits each: tallies, magnitudes and the count
  cuda::DeviceBuffer values_;     ///< [3, C] doubles
  cuda::DeviceBuffer message_;    ///< doubles, behind them the exchange's own words
  kernels::cuda::ExactChannels of_;
};

}  // namespace syncbn::bn
