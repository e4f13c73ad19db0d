// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header needs no CUDA header: a cudaStream_t is passed as it is.

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "syncbn/communicator.hpp"
#include "syncbn/device.hpp"
#include "syncbn/export.h"

namespace syncbn {

namespace comm {
class DeviceSum;
}

/// A DeviceCommunicator is a handle on a group of ranks that sum values in the memory of their CUDA
/// devices. It can be copied, and is cheap to pass by value; copies share one group.
///
/// A rank's device is the one that is current when the handle is made. Memory and streams must be
/// that device's, and it must be current in every call. As with Communicator, calls marked
/// "Collective" are made by every rank in the same order, a rank's handle serves one thread at a
/// time, and after a CommError it is unusable. A message that fails on a stream is noticed after
/// the call that put it there: by the next call of this object, whichever it is.
///
/// Functions that make a communicator throw NotConfigured in a build without CUDA or an emulated
/// device; so does `nccl` in one without NCCL, and where a rank has no NCCL to use.
class SYNCBN_API DeviceCommunicator {
 public:
  /// Local. Makes a group of one rank, whose sums do nothing.
  static DeviceCommunicator self();

  /// Local. Makes a group that sums over the CPU: values are copied to pinned memory, summed by
  /// `host` and copied back. This works with every communicator and any number of ranks on a
  /// device. Each sum waits for the stream and for the other ranks, and throws what went wrong at
  /// once; it throws DeviceError for a stream that is being captured. `deadlines` are for the
  /// rank's own stream; for the other ranks, `host` has its own. `host` is kept; its own
  /// collectives may be called in between, in the same order on all ranks.
  static DeviceCommunicator staged(Communicator host, Deadlines deadlines = default_deadlines());

  /// Collective. Makes a group that sums with NCCL, over the ranks of `bootstrap`. A sum is put on
  /// the stream, with a small kernel before and one after it, and the call returns without waiting;
  /// it can be captured in a CUDA graph and replayed.
  ///
  /// The library is not linked with NCCL. It uses the one that the process already has, such as
  /// PyTorch's, or else opens the libnccl.so.2 that the dynamic loader finds: version 2.19 or
  /// newer.
  ///
  /// Each rank needs a device of its own: throws InvalidArgument if two ranks share one, unless
  /// NCCL is 2.30.3 or newer and NCCL_MULTI_RANK_GPU_ENABLE is 1 in their environments. Ranks that
  /// share one must then be processes, since work on a device can wait for other ranks of the same
  /// process.
  ///
  /// If a message that was begun on the device is not finished by the deadlines, a thread of the
  /// library reports it and then ends it: streams go on, also those in cudaStreamSynchronize and
  /// those of replayed graphs, the values are lost, and every later call throws CommError. If the
  /// ranks' messages differ, the values become NaN on every rank.
  ///
  /// `bootstrap` is kept. It is used at the first message of each kind, and after a failure to find
  /// out which ranks are missing, or what each did. So give it deadlines no shorter than these, and
  /// call its own collectives, in between, in the same order on all ranks.
  ///
  /// Besides its sum, a layer's message costs the device two kernels of one block, and the CPU
  /// three launches, NCCL's from a thread that is started for it; `all_reduce` has one launch of
  /// NCCL's more. NCCL keeps device memory for every communicator. Do not make one while a stream
  /// is being captured. Keep it until streams are done with its sums, and graphs that hold them are
  /// destroyed.
  static DeviceCommunicator nccl(Communicator bootstrap, Deadlines deadlines = default_deadlines());

  /// An AllReduce puts on `stream` the sum of values[0] to values[count - 1], in device memory,
  /// over all ranks: in place, the same bits on every rank. It returns without waiting for the
  /// stream, or throws. All ranks call it in the same order with equal counts.
  using AllReduce = std::function<void(double* values, std::size_t count, CudaStream stream)>;
  /// An Abort ends the sums that AllReduce has put on streams, whose values are lost, and returns
  /// when streams can go on. It is called from a thread of the library, or in the last handle's
  /// destructor, once and only after a failure; AllReduce may be running at the time.
  using Abort = std::function<void()>;

  /// Local. Makes a group that sums with another library's collective, such as a framework's. Every
  /// rank passes its callback, which is not called in a group of one.
  ///
  /// `host` has the same ranks in the same order, and sums in the CPU's memory: what
  /// Communicator::custom makes of the same framework will do. It is kept and used as `nccl` uses
  /// its bootstrap, so what is said there of its deadlines and collectives holds here.
  ///
  /// Messages are checked as with `nccl`, by a small kernel before and one after each. Ranks that
  /// disagree are told who did what, and a message that is not finished by the deadlines is
  /// reported, and then the group has failed: `poll`, `synchronize` and every later call tell who
  /// is missing. Then `abort` is called. Without one, streams stand still until the framework ends
  /// its collectives, and destroying the last handle can wait for that.
  ///
  /// Sums can be captured in a CUDA graph if the callback's can. A layer's message takes one call
  /// of the callback, and all_reduce two: one for the values, one for 8 doubles of the library's.
  /// What the callback throws becomes a CommError (a DeviceError stays one) and the group is then
  /// unusable. Such a group cannot be split. Keep it until streams are done with its sums, and
  /// graphs that hold them are destroyed. Throws InvalidArgument for an empty callback.
  static DeviceCommunicator custom(Communicator host, AllReduce all_reduce,
                                   Deadlines deadlines = default_deadlines(), Abort abort = {});

  /// Returns the CUDA device that was current when the group was made.
  Device device() const;
  int rank() const;
  int size() const;

  /// Collective. Puts on `stream` the sum over the ranks of values[0] to values[length - 1], in
  /// place, the same bits on every rank. `values` is device memory and must stay until the stream
  /// has done the sum. Sums must follow each other: in one stream, or in several that wait for each
  /// other. Throws CommError if a sum has failed so far.
  void all_reduce(double* values, std::size_t length, CudaStream stream) const;

  /// Throws CommError if a sum has failed so far, and does not wait for the device. Local unless a
  /// sum has failed; then it is collective, as the ranks find out together what went wrong.
  void poll() const;

  /// Waits for what was put on `stream`, as cudaStreamSynchronize does, but throws CommError when a
  /// rank is missing by the deadline or the ranks disagree, and DeviceError for a stream that is
  /// being captured.
  void synchronize(CudaStream stream) const;

  /// Collective. Returns the sub-group of the ranks that gave the same color, in the order of their
  /// ranks. Throws NotConfigured for a custom communicator of more than one rank, and if the
  /// communicator it was made with cannot be split.
  DeviceCommunicator split(int color) const;

 private:
  friend comm::Access;
  explicit DeviceCommunicator(std::shared_ptr<comm::DeviceSum> sum) : sum_(std::move(sum)) {}

  std::shared_ptr<comm::DeviceSum> sum_;
};

}  // namespace syncbn
