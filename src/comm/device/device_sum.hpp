// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "comm/device/device_message.hpp"
#include "comm/group/descriptor.hpp"
#include "comm/group/subject_counts.hpp"
#include "cuda/device.hpp"

struct CUstream_st;

namespace syncbn::comm {

/// Is cudaStream_t, named without CUDA's headers.
using Stream = CUstream_st*;

/// Sums values in device memory over the ranks of a group (an all-reduce), in the caller's stream.
///
/// It belongs to the device that is current when it is made: all streams and memory that it is
/// given are that device's. Its messages follow each other: in one stream, or in several that wait
/// for each other.
class DeviceSum {
 public:
  virtual ~DeviceSum() = default;

  /// Returns the number of the device that it belongs to.
  int device() const { return device_; }

  /// Returns how many subjects of this name were counted before: see SubjectCounts.
  std::int64_t count_subject(std::string_view name) { return subjects_.count(name); }

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Collective. Puts on `stream` the sum of a message over the ranks, in place, the same bits on
  /// every rank. All ranks send their messages in the same order, and all with or all without room
  /// behind them (DeviceMessage). The first message of an operation, subject and length waits for
  /// the other ranks' hosts. Throws CommError as `poll` does.
  virtual void all_reduce(const Descriptor& what, const DeviceMessageView& message,
                          Stream stream) = 0;

  /// Throws CommError if a message has failed so far; it is then collective, to tell who did what
  /// or who is missing. Otherwise it reads a few words of host memory and returns.
  virtual void poll() = 0;

  /// Waits for what was put on `stream`. Throws CommError as `poll` does, as soon as a message has
  /// failed: where a rank is missing, at the deadline.
  virtual void synchronize(Stream stream) = 0;

  /// Collective. Returns the sum over the ranks that gave the same color, in the order of their
  /// ranks here.
  virtual std::unique_ptr<DeviceSum> split(int color) = 0;

 private:
  int device_ = syncbn::cuda::current_device();
  SubjectCounts subjects_;
};

}  // namespace syncbn::comm
