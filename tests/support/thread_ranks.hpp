// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "syncbn/communicator.hpp"

namespace syncbn::test {

/// Runs `body` once per rank of a group of threads. What a rank throws fails the test, with the
/// rank's number.
inline void on_thread_ranks(int ranks, const std::function<void(Communicator)>& body,
                            std::chrono::milliseconds timeout) {
  SCOPED_TRACE(std::to_string(ranks) + " threads as ranks");
  std::vector<Communicator> group = Communicator::threads(ranks, timeout);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&body, rank, own = std::move(group[static_cast<std::size_t>(rank)])] {
      try {
        body(own);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << rank << " threw: " << error.what();
      }
    });
  }
  group.clear();
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace syncbn::test
