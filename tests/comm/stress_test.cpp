// SPDX-License-Identifier: Apache-2.0
//
// Many sums at once, of random lengths, over random groups of ranks, with random delays: none
// wrong, none lost. SYNCBN_STRESS in the environment says how many, 2,000 unless set.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

int sums() {
  const char* text = std::getenv("SYNCBN_STRESS");
  return text == nullptr ? 2000 : std::atoi(text);
}

/// Ranks that sum together, of which this is one.
struct Team {
  Communicator group;
  std::vector<int> members;  ///< ranks of the world
};

Team team(const Communicator& world, int color_of_mine, auto color_of) {
  Team made{world.split(color_of_mine), {}};
  for (int rank = 0; rank < world.size(); ++rank) {
    if (color_of(rank) == color_of_mine) {
      made.members.push_back(rank);
    }
  }
  return made;
}

struct Sum {
  int number;
  const Team* team;
  std::vector<double> data;
  PendingSum pending;
};

/// What rank r puts at place i of a sum: such that another sum's or place's is seen.
double value(int number, int rank, std::size_t i) {
  return number % 1000 * 1e6 + rank * 1e3 + static_cast<double>(i % 997);
}

TEST(Stress, NoSumIsWrongOrLost) {
  test::on_ranks([](const Communicator& world) {
    const int me = world.rank();
    std::vector<Team> teams;
    const auto add = [&](auto color_of) { teams.push_back(team(world, color_of(me), color_of)); };
    add([](int) { return 0; });
    add([](int rank) { return rank % 2; });
    add([](int rank) { return rank / 2; });
    add([](int rank) { return rank == 0 ? 0 : 1; });
    add([](int) { return 7; });  // all, beside the first

    std::mt19937 common(12345);  // the same choices on every rank
    std::mt19937 own(static_cast<unsigned>(me));
    const auto below = [](std::mt19937& random, int n) {
      return static_cast<int>(random() % static_cast<unsigned>(n));
    };
    std::deque<Sum> under_way;
    const auto finish = [&](std::size_t which) {
      Sum& sum = under_way[which];
      sum.team->group.finish(sum.pending);
      for (std::size_t i = 0; i < sum.data.size(); ++i) {
        double expected = 0;
        for (const int rank : sum.team->members) {
          expected += value(sum.number, rank, i);
        }
        ASSERT_EQ(sum.data[i], expected) << "sum " << sum.number << ", place " << i;
      }
    };
    for (int number = 0; number < sums(); ++number) {
      Sum& sum = under_way.emplace_back();
      sum.number = number;
      sum.team = &teams[static_cast<std::size_t>(below(common, static_cast<int>(teams.size())))];
      const int kind = below(common, 100);
      const int longest = kind < 70 ? 300 : kind < 97 ? 5'000 : 40'000;
      sum.data.resize(static_cast<std::size_t>(below(common, longest)));
      for (std::size_t i = 0; i < sum.data.size(); ++i) {
        sum.data[i] = value(number, me, i);
      }
      if (const int delay = below(own, 200); delay < 4) {
        std::this_thread::sleep_for(std::chrono::microseconds(100 * delay));
      }
      sum.pending = sum.team->group.start(sum.data);
      // In any order, the same on all ranks, so that none waits for a rank that waits for it.
      while (under_way.size() > 6 || (!under_way.empty() && below(common, 3) == 0)) {
        const auto which =
            static_cast<std::size_t>(below(common, static_cast<int>(under_way.size())));
        finish(which);
        under_way.erase(under_way.begin() + static_cast<std::ptrdiff_t>(which));
      }
    }
    while (!under_way.empty()) {
      finish(0);
      under_way.pop_front();
    }
  });
}

}  // namespace
}  // namespace syncbn
