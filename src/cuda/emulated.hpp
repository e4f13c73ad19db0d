// SPDX-License-Identifier: Apache-2.0
#pragma once

// In a build with SYNCBN_CUDA=EMULATED the host is the only device: its memory is the host's, and
// kernels run on the host. The default stream does at once what is put on it, in the calling
// thread. Any other stream does it in a thread of its own, so that the host runs ahead as it does
// of a device.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "cuda/stream.hpp"

struct CUstream_st {
 public:
  CUstream_st();
  CUstream_st(const CUstream_st&) = delete;
  CUstream_st& operator=(const CUstream_st&) = delete;
  /// Waits for all that was put on the stream.
  ~CUstream_st();

  /// Has the stream's thread call `work`, which must not throw, after what was put there before.
  void put(std::function<void()> work);
  /// Waits for all that was put on the stream so far.
  void synchronize();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;  ///< the first is being done
  bool ends_ = false;
  std::thread thread_;  ///< last, as it uses the members above
};

namespace syncbn::cuda {

/// From now on counts all memory of this process as the device's, not only what was allocated as
/// that: for tensors of a framework that knows no emulated device.
void count_all_memory_as_the_devices();

/// Puts `work` on a stream, which may be the default one. It must not throw.
void put_on(StreamHandle stream, std::function<void()> work);

}  // namespace syncbn::cuda
