// SPDX-License-Identifier: Apache-2.0
#include "app/scale/common_clock.hpp"

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/on_ranks.hpp"

namespace syncbn::app::scale {
namespace {

/// Collective. Returns what each rank gives.
std::vector<double> gather(const Communicator& ranks, Nanoseconds own) {
  return ranks.all_gather(std::vector<double>{static_cast<double>(own)});
}

TEST(CommonClock, IsTheKernelsWhereAllRanksHaveOne) {
  test::on_ranks([](const Communicator& ranks) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ranks.rank()));
    const CommonClock clock(ranks, "one");
    EXPECT_TRUE(clock.one_kernel());
    EXPECT_EQ(clock.uncertainty(), 0);
    // Each rank leaves an all_gather later than every rank has entered it.
    const std::vector<double> entries = gather(ranks, clock.now());
    const auto exit = static_cast<double>(clock.now());
    for (const double entry : entries) {
      EXPECT_LE(entry, exit);
    }
  });
}

// All ranks of the test read one kernel's clock, so what they should find out is known: nothing
// lies between their clocks. They are told that each has a kernel of its own.
TEST(CommonClock, FindsTheOffsetOfOtherKernels) {
  test::on_ranks([](const Communicator& ranks) {
    const CommonClock truth(ranks, "one");
    std::this_thread::sleep_for(std::chrono::milliseconds(ranks.rank()));
    CommonClock clock(ranks, "kernel " + std::to_string(ranks.rank()));
    if (ranks.size() > 1) {
      EXPECT_FALSE(clock.one_kernel());
    }
    for (int i = 0; i < 3; ++i) {
      clock.synchronize();
      // Between two looks at the true time there may be a wait for a processor.
      const Nanoseconds earlier = truth.now();
      const Nanoseconds now = clock.now();
      const Nanoseconds later = truth.now();
      const std::vector<double> least = gather(ranks, now - later);
      const std::vector<double> most = gather(ranks, now - earlier);
      const std::vector<double> uncertainties = gather(ranks, clock.uncertainty());
      for (std::size_t rank = 0; rank < least.size(); ++rank) {
        EXPECT_LE(least[rank] - most[0], uncertainties[rank]);
        EXPECT_GE(most[rank] - least[0], -uncertainties[rank]);
        EXPECT_EQ(uncertainties[rank] == 0, rank == 0);
        EXPECT_LT(uncertainties[rank], 1e8) << "is known to 0.1 s only";
      }
    }
  });
}

TEST(CommonClock, UnderstandsTheSystemsClock) {
  test::on_ranks([](const Communicator& ranks) {
    const CommonClock clock(ranks, "one");
    const Nanoseconds before = clock.now();
    const double since_1970 =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    const Nanoseconds after = clock.now();
    const Nanoseconds then = clock.from_system_clock(since_1970);
    const Nanoseconds busy = 100000000;  // while it looks at two clocks
    EXPECT_GE(then, before - busy);
    EXPECT_LE(then, after + busy);
  });
}

}  // namespace
}  // namespace syncbn::app::scale
