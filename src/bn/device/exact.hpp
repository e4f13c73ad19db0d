// SPDX-License-Identifier: Apache-2.0
#pragma once

// DeviceExact takes exact sums on a device, in the steps of channels/exact_steps.hpp. They are
// taken there, so that the host need not wait to learn which channels' sums are to be taken again.
// Every step that may be needed is put on the stream each time:
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
// 5 messages and a backward 3 (channels/exact_messages.hpp).

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
    const float* position_weights;  ///< null, or [N, S]
    double eps;
    double* pivot;  ///< [C], moved where sums are taken again
    double* sums;   ///< [2C + 1] written: the group's sums
    /// Null, or a fingerprint of what the ranks must share: see comm::DeviceMessageView::state.
    const std::uint64_t* shared;
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
  channels::ExactPass pass(const comm::Descriptor& what, bool backward) const;
  void count(const ConstTensorView& x, const float* position_weights, comm::Stream stream);
  template <class Terms, class Settle>
  void take(comm::DeviceSum& group, comm::Descriptor what, const Terms& terms, Settle settle,
            const double* mean, const std::uint64_t* shared, comm::Stream stream);

  channels::ExponentCode code_;
  cuda::DeviceBuffer exponents_;  ///< ints
  cuda::DeviceBuffer words_;      ///< 64 bits each: tallies, magnitudes and the count
  cuda::DeviceBuffer values_;     ///< doubles
  comm::DeviceMessage message_;
  channels::ExactChannels of_;
};

}  // namespace syncbn::bn
