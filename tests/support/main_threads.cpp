// SPDX-License-Identifier: Apache-2.0
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/on_ranks.hpp"

namespace syncbn::test {

void on_ranks(const std::function<void(Communicator)>& body, std::chrono::milliseconds timeout) {
  for (const int ranks : {1, 2, 3, 4}) {
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
}

}  // namespace syncbn::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
