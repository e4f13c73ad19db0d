// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/emulated_queue.hpp"

/// A stream of an emulated device: a thread that does what is put on it, one after the other.
struct CUstream_st {
 public:
  using Work = syncbn::cuda::WorkQueue::Work;

  /// Makes a stream of the current device.
  CUstream_st();
  CUstream_st(const CUstream_st&) = delete;
  CUstream_st& operator=(const CUstream_st&) = delete;
  /// Waits for all that was put on the stream.
  ~CUstream_st();

  /// Has the stream's thread call `work`, which must not throw, after what was put there before. In
  /// a capture, records it instead.
  void put(Work work);
  /// Likewise, but in a capture, too.
  void put_now(Work work) { queue_.put(std::move(work)); }
  /// Waits for all that was put on the stream so far. Throws DeviceError in a capture.
  void synchronize();

  int device() const { return device_; }

  // One thread begins, fills and ends a capture (graph.hpp).
  void begin_capture();
  bool is_capturing() const { return captured_.has_value(); }
  /// Returns what was put on the stream since begin_capture.
  std::vector<Work> end_capture();

 private:
  void run();
  /// Waits a while at random, if streams are delayed.
  void delay();

  const int device_;
  std::optional<std::minstd_rand> random_;
  std::optional<std::vector<Work>> captured_;
  syncbn::cuda::WorkQueue queue_;
  std::thread thread_;  ///< last, as it uses the members above
};
