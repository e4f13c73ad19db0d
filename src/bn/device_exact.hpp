// SPDX-License-Identifier: Apache-2.0
#pragma once

// Exact sums on a device: the windows, the integers and the decisions of exact_sums.hpp, taken
// there (kernels/cuda/exact.hpp), so that the host need not wait to know which channels' sums are
// to be taken again. What may be necessary is put on the stream each time:
//
// clang-format off
// forward   tally x, all_reduce the sums                                   one read of x
//           twice: magnitudes, all_reduce the exponents, tally, all_reduce the sums again
// backward  tally x and dy, all_reduce the sums                            one read of x, dy
//           once: as in a forward
// clang-format on
//
// In the repeats kernels read what belongs to channels that need them, nothing as a rule; the
// messages travel in any case. They are, beside the exchange's own words, in doubles
//
// clang-format off
//   sums        4C + 11, backward 5C + 11, f64 4C more      integers below 2^53 (exact_pass.hpp)
//   exponents   2C (w + 1), w = 2 for one rank, 5 for 8, 12 for 1024               (exponent_code)
// clang-format on
//
// and so a forward has 5 messages and a backward 3.

#include <cstdint>

#include "comm/device_sum.hpp"
#include "cuda/device_buffer.hpp"
#include "kernels/cuda/exact.hpp"

namespace syncbn::bn {

/// What a layer keeps for them, in device memory.
class DeviceExact {
 public:
  /// For groups of so many ranks. Local; waits for the device.
  DeviceExact(std::int64_t channels, int ranks);

  /// The windows of the steps so far. Waits for the stream.
  void forget(comm::Stream stream);

  /// [C] of the last batch, to be written where no running variance is kept.
  double* var() const { return of_.var; }

  struct Forward {
    ConstTensorView x;
    const float* weight;         ///< null, or [N, S]
    const double* running_mean;  ///< null, or [C]
    const double* running_var;   ///< with it
    const std::int64_t* batches;
    double momentum;  ///< 1 for a cumulative average
    double eps;
    double* pivot;  ///< [C], moved
    double* sums;   ///< [2C + 1] written: the group's
  };
  /// Collective. Puts the sums of x on `stream`.
  void sum(comm::DeviceSum& group, const comm::Descriptor& what, const Forward& arguments,
           comm::Stream stream);

  struct Backward {
    kernels::Upstream upstream;
    const double* invstd;  ///< [C]
    double* sums;          ///< [2C + 1] written: the group's
    double* own_sums;      ///< [2C + 1] written, but for the count: this rank's
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
  cuda::DeviceBuffer words_;      ///< tallies, magnitudes and the count, of 64 bits
  cuda::DeviceBuffer values_;     ///< [3, C] doubles
  cuda::DeviceBuffer message_;    ///< and the exchange's own words
  kernels::cuda::ExactChannels of_;
};

}  // namespace syncbn::bn
