// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "support/delayed_streams.hpp"
#include "support/on_ranks.hpp"
#include "support/thread_ranks.hpp"

namespace syncbn::test {

void on_ranks(const std::function<void(Communicator)>& body, std::chrono::milliseconds timeout) {
  for (const int ranks : {1, 2, 3, 4}) {
    on_thread_ranks(ranks, body, timeout);
  }
}

}  // namespace syncbn::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  syncbn::test::delay_streams();
  return RUN_ALL_TESTS();
}
