// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace syncbn::app {

/// A LastResort guards a call into another library that cannot be interrupted. Unless it is
/// destroyed within `limit`, it prints `message` to standard error and ends this process with exit
/// code 1.
class LastResort {
 public:
  LastResort(std::chrono::milliseconds limit, std::string message);
  /// Also prints `warning` after `first`, if that comes before the limit.
  LastResort(std::chrono::milliseconds limit, std::string message, std::chrono::milliseconds first,
             std::string warning);
  LastResort(const LastResort&) = delete;
  LastResort& operator=(const LastResort&) = delete;
  ~LastResort() = default;

 private:
  std::mutex mutex_;
  std::condition_variable_any gone_;
  std::jthread thread_;  ///< last, so that it stops before what it waits with is destroyed
};

}  // namespace syncbn::app
