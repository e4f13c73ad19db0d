// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace syncbn::app {

/// For calls of others' that cannot be given up: ends this process, with exit code 1, after
/// printing `message` to standard error, unless it is gone again within `limit`.
class LastResort {
 public:
  LastResort(std::chrono::milliseconds limit, std::string message);
  /// Prints `warning` after `first`, if that comes before the limit.
  LastResort(std::chrono::milliseconds limit, std::string message, std::chrono::milliseconds first,
             std::string warning);
  LastResort(const LastResort&) = delete;
  LastResort& operator=(const LastResort&) = delete;
  ~LastResort() = default;

 private:
  std::mutex mutex_;
  std::condition_variable_any gone_;
  std::jthread thread_;  ///< stopped before what it waits with is gone
};

}  // namespace syncbn::app
