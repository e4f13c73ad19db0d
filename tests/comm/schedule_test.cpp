// SPDX-License-Identifier: Apache-2.0

// Leaders that follow their schedules, message by message, without MPI.

#include "comm/mpi/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace syncbn::comm::mpi {
namespace {

struct Leader {
  std::vector<Step> steps;
  double value = 0;
  std::size_t step = 0;
  bool begun = false;
};

/// Leaders in turns, each as far as it comes. Their values, or none if they wait for each other.
class Exchange {
 public:
  explicit Exchange(const std::vector<double>& values) {
    for (std::size_t rank = 0; rank < values.size(); ++rank) {
      leaders_.push_back(
          {schedule(static_cast<int>(rank), static_cast<int>(values.size())), values[rank]});
    }
    for (bool any = true; any;) {
      any = false;
      for (int rank = 0; rank < static_cast<int>(leaders_.size()); ++rank) {
        while (advance(rank)) {
          any = true;
        }
      }
    }
  }

  bool ended() const {
    return std::ranges::all_of(
               leaders_, [](const Leader& leader) { return leader.step == leader.steps.size(); }) &&
           std::ranges::all_of(mail_, [](const auto& box) { return box.second.empty(); });
  }
  std::vector<double> values() const {
    std::vector<double> all;
    for (const Leader& leader : leaders_) {
      all.push_back(leader.value);
    }
    return all;
  }

 private:
  bool advance(int rank) {
    Leader& leader = leaders_[static_cast<std::size_t>(rank)];
    if (leader.step == leader.steps.size()) {
      return false;
    }
    const Step& step = leader.steps[leader.step];
    if (!leader.begun && step.sends()) {
      for (const int partner : step.partners) {
        mail_[{rank, partner}].push_back(leader.value);
      }
    }
    leader.begun = true;
    if (step.receives() && !std::ranges::all_of(step.partners, [&](int partner) {
          return !mail_[{partner, rank}].empty();
        })) {
      return false;
    }
    if (step.receives()) {
      take(rank, leader, step);
    }
    ++leader.step;
    leader.begun = false;
    return true;
  }

  void take(int rank, Leader& leader, const Step& step) {
    std::map<int, double> operands;
    for (const int partner : step.partners) {
      operands[partner] = mail_[{partner, rank}].front();
      mail_[{partner, rank}].pop_front();
    }
    if (step.act == Act::take_sum) {
      leader.value = operands.begin()->second;
      return;
    }
    operands[rank] = leader.value;
    auto operand = operands.begin();
    leader.value = operand->second;
    while (++operand != operands.end()) {
      leader.value += operand->second;
    }
  }

  std::vector<Leader> leaders_;
  std::map<std::pair<int, int>, std::deque<double>> mail_;
};

TEST(Schedule, AddsUpEachLeaderOnce) {
  for (int size = 1; size <= 200; ++size) {
    std::vector<double> values;
    for (int rank = 0; rank < size; ++rank) {
      values.push_back(rank + 1);
    }
    const Exchange exchange(values);
    ASSERT_TRUE(exchange.ended()) << size;
    const std::vector<double> expected(values.size(), size * (size + 1) / 2.0);
    ASSERT_EQ(exchange.values(), expected) << size;
  }
}

TEST(Schedule, GivesEveryLeaderTheSameBits) {
  for (const int size : {3, 5, 6, 7, 12, 13, 96, 1000}) {
    std::vector<double> values;
    for (int rank = 0; rank < size; ++rank) {
      values.push_back(std::sin(rank) * std::exp(rank % 40));
    }
    const std::vector<double> sums = Exchange(values).values();
    const std::vector<double> expected(sums.size(), sums.front());
    ASSERT_EQ(sums, expected) << size;
  }
}

TEST(Schedule, IsShort) {
  const auto longest = [](int size) {
    std::size_t steps = 0;
    for (int rank = 0; rank < size; ++rank) {
      steps = std::max(steps, schedule(rank, size).size());
    }
    return steps;
  };
  EXPECT_EQ(longest(1), 0U);
  EXPECT_EQ(longest(2), 1U);
  EXPECT_EQ(longest(3), 1U);
  EXPECT_EQ(longest(4), 2U);
  EXPECT_EQ(longest(6), 2U);
  EXPECT_EQ(longest(64), 6U);
  EXPECT_EQ(longest(96), 6U);    // 2^5 3
  EXPECT_EQ(longest(1000), 9U);  // 972 = 2^2 3^5, and 28 beyond
}

}  // namespace
}  // namespace syncbn::comm::mpi
