// SPDX-License-Identifier: Apache-2.0
#pragma once

// Needs no CUDA header: a cudaStream_t is passed as it is.

#include <cstddef>
#include <memory>

#include "syncbn/communicator.hpp"

struct CUstream_st;

namespace syncbn {

namespace comm {
class DeviceSum;
}

/// cudaStream_t
using CudaStream = CUstream_st*;

/// The ranks over which values in device memory are summed: a copyable handle, cheap to pass by
/// value.
///
/// A rank's device is the one that is current when it is made; memory and streams are that
/// device's, and it is to be current in every call. Copies share one group. As with Communicator,
/// calls marked collective are made by every rank in the same order, a rank's handle serves one
/// thread at a time, and after a CommError it is unusable. A stream's failure is noticed later than
/// its call: by the next call of this object, whichever it is.
///
/// What a build cannot do throws NotConfigured: everything without CUDA, and `nccl` without NCCL.
class DeviceCommunicator {
 public:
  /// A group of one rank, in which a sum is nothing to do.
  static DeviceCommunicator self();

  /// Over the host: a sum is copied to pinned memory, summed by `host` and copied back. Works with
  /// every communicator and any number of ranks on a device. Each sum waits for the stream and for
  /// the other ranks, and throws what went wrong at once; a stream that is being captured is
  /// refused with DeviceError. `deadlines` are for the rank's own stream, `host` has those for the
  /// other ranks. The handle is kept; its own collectives may be called in between, in the same
  /// order on all ranks.
  static DeviceCommunicator staged(Communicator host, Deadlines deadlines = default_deadlines());

  /// Collective. Over NCCL, each rank with a device of its own: throws InvalidArgument if two share
  /// one, unless NCCL is 2.30.3 or newer and its NCCL_MULTI_RANK_GPU_ENABLE is 1 in their
  /// environments; then they are to be processes, for work on a device can wait for other ranks'
  /// of the same process. A sum is put on the stream, with a small kernel in front and one behind
  /// it, and the host goes on; it can be captured in a graph, and then be replayed.
  ///
  /// A message that was begun on the device and is not finished by the deadlines is reported, and
  /// then ended, from a thread of the library's: streams go on, also those in cudaStreamSynchronize
  /// and of replayed graphs, the values are lost, and every later call throws CommError. Where the
  /// ranks' messages differ, the values become NaN on every rank.
  ///
  /// `bootstrap`, of the same ranks, is kept: it is used at the first message of each kind, and
  /// after a failure to tell which ranks are missing, or who did what. So let it have deadlines no
  /// shorter than these; and its own collectives, in between, the same order on all ranks.
  ///
  /// Beside its sum, a message takes the device two kernels of one block, and the host the three
  /// launches, NCCL's from a thread that it starts for it. NCCL keeps device memory for every
  /// communicator. Not to be made while a stream is being captured; to be kept until streams are
  /// done with its sums, and graphs that hold them are destroyed.
  static DeviceCommunicator nccl(Communicator bootstrap, Deadlines deadlines = default_deadlines());

  int rank() const;
  int size() const;

  /// Doubles behind the values that a sum needs for itself.
  static constexpr std::size_t own_words = 8;

  /// Collective. Puts on `stream` the sum over the ranks of values[0] to values[length - 1], in
  /// place, the same bits on every rank; own_words more, behind them, are overwritten. Sums follow
  /// each other: in one stream, or in several that wait for each other. The memory stays until the
  /// stream has done it. Throws CommError for what has failed so far.
  void all_reduce(double* values, std::size_t length, CudaStream stream) const;

  /// Throws CommError for what has failed so far, collectively then; does not wait for the device.
  void poll() const;

  /// Waits for what was put on `stream`. As cudaStreamSynchronize, but throws CommError when a
  /// rank is missing by the deadline, or the ranks disagree; and DeviceError for a stream that is
  /// being captured.
  void synchronize(CudaStream stream) const;

  /// Collective. The sub-group of the ranks that gave the same color, in the order of their ranks.
  /// Throws NotConfigured if the host communicator cannot be split.
  DeviceCommunicator split(int color) const;

  /// For sums made elsewhere in this library.
  explicit DeviceCommunicator(std::shared_ptr<comm::DeviceSum> sum);
  comm::DeviceSum& sum() const { return *sum_; }

 private:
  std::shared_ptr<comm::DeviceSum> sum_;
};

}  // namespace syncbn
