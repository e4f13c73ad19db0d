// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

// cuda_on_host.cpp makes the host the only CUDA device, in place of what a build without CUDA has.
// The default stream does at once what is put on it; a stream of a test's own, made here, does it
// in a thread, as a device would.

struct CUstream_st {
 public:
  CUstream_st() : thread_([this] { run(); }) {}
  CUstream_st(const CUstream_st&) = delete;
  CUstream_st& operator=(const CUstream_st&) = delete;
  /// Waits for all that was put on the stream.
  ~CUstream_st();

  void put(std::function<void()> work);
  void synchronize();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;  ///< the first is being done
  bool ends_ = false;
  std::thread thread_;  ///< last, as it uses the members above
};
