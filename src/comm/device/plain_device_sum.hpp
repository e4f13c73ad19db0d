// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "syncbn/communicator.hpp"

struct CUstream_st;

namespace syncbn::comm {

/// An all-reduce of device memory that is not this library's (NCCL's, or the caller's): it adds up
/// whatever the ranks give it and does not check that they mean the same. One thread calls
/// `all_reduce` and `split`; others may call `trouble` and `abort` meanwhile.
class PlainDeviceSum {
 public:
  virtual ~PlainDeviceSum() = default;

  /// Collective. Puts on the stream the sum of `count` doubles over the ranks, in place, the same
  /// bits on every rank. All ranks put their sums there in the same order, with equal counts.
  /// Throws CommError or DeviceError if that cannot be done.
  virtual void all_reduce(double* values, std::size_t count, CUstream_st* stream) = 0;

  /// Returns what went wrong after `all_reduce` had returned; "" if nothing is known.
  virtual std::string trouble() = 0;

  /// Ends the sums that were put on streams, where that is possible; their values are lost.
  /// Nothing is put there any more after that. Returns when streams can go on.
  virtual void abort() noexcept = 0;

  /// Collective. Returns the all-reduce over the ranks with the same color, at least 0, in the
  /// order of their ranks here.
  virtual std::unique_ptr<PlainDeviceSum> split(int color) = 0;
};

}  // namespace syncbn::comm
