// SPDX-License-Identifier: Apache-2.0
#include "support/delayed_streams.hpp"

#include <cstdlib>
#include <iostream>
#include <string_view>

#include <gtest/gtest.h>

#include "cuda/emulated.hpp"
#include "support/seed.hpp"

namespace syncbn::test {
namespace {

/// Prints the seed where a test has failed.
class PrintSeed final : public testing::EmptyTestEventListener {
  void OnTestProgramEnd(const testing::UnitTest& all) override {
    if (all.Failed()) {
      std::cout << "SYNCBN_SEED=" << seed() << " delays streams as in this run." << std::endl;
    }
  }
};

}  // namespace

void delay_streams() {
  if (const char* const wanted = std::getenv("SYNCBN_STREAM_DELAYS");
      wanted != nullptr && std::string_view(wanted) == "none") {
    return;
  }
  cuda::delay_streams(seed());
  testing::UnitTest::GetInstance()->listeners().Append(new PrintSeed);
}

}  // namespace syncbn::test
