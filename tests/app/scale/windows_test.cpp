// SPDX-License-Identifier: Apache-2.0
#include "app/scale/windows.hpp"

#include <chrono>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "app/scale/flights.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::app::scale {
namespace {

/// Matches these numbers, up to rounding.
auto each_of(std::vector<double> numbers) {
  return testing::Pointwise(testing::DoubleEq(), std::move(numbers));
}

const Arrivals three_ranks{.arrival = {{0, 100}, {50, 160}, {20, 160}},
                           .exit = {{70, 180}, {80, 200}, {75, 190}}};

TEST(Arrivals, TellTransferFromWaiting) {
  EXPECT_THAT(three_ranks.after_last_arrival(), each_of({30e-9, 40e-9}));
  EXPECT_THAT(three_ranks.spread(), each_of({50e-9, 60e-9}));
  EXPECT_THAT(three_ranks.from_first_arrival(), each_of({80e-9, 100e-9}));
  EXPECT_THAT(three_ranks.lag(2), each_of({20e-9, 60e-9}));
}

TEST(Arrivals, TellWhoCameLast) {
  const std::vector<std::size_t> both{0, 1};
  EXPECT_EQ(three_ranks.share_last(0, both), 0);
  EXPECT_EQ(three_ranks.share_last(1, both), 1);
  EXPECT_EQ(three_ranks.share_last(2, both), 0.5);
}

// A rank that the others seldom wait for, but then long, is not last more often than they are.
TEST(Arrivals, TellWhoCameLastWhereThatMattered) {
  const Arrivals arrivals{.arrival = {{1, 1, 1, 1, 0}, {0, 0, 0, 0, 900}},
                          .exit = {{50, 50, 50, 50, 950}, {50, 50, 50, 50, 950}}};
  EXPECT_THAT(arrivals.long_waits(), testing::ElementsAre(4));
  EXPECT_EQ(arrivals.share_last(0, arrivals.long_waits()), 0);
  EXPECT_EQ(arrivals.share_last(1, arrivals.long_waits()), 1);
  EXPECT_EQ(arrivals.share_last(1, {}), 0);
}

TEST(StoppingRule, EndsWhatIsPreciseAndWhatTakesTooLong) {
  const StoppingRule rule{.fewest = 10, .most = 100, .least_seconds = 1, .most_seconds = 5};
  EXPECT_FALSE(rule.ended_by(10, 0.5, true)) << "before the least time";
  EXPECT_FALSE(rule.ended_by(9, 2, true)) << "before the fewest repetitions";
  EXPECT_TRUE(rule.ended_by(10, 2, true));
  EXPECT_FALSE(rule.ended_by(10, 2, false));
  EXPECT_TRUE(rule.ended_by(10, 5, false));
  EXPECT_FALSE(rule.ended_by(9, 9, false));
  EXPECT_FALSE(rule.ended_by(5, 29, false)) << "fewer than a median's interval takes";
  EXPECT_TRUE(rule.ended_by(1, 30, false));
  EXPECT_TRUE(rule.ended_by(9, 10, false)) << "twice its time";
  EXPECT_TRUE(rule.ended_by(100, 0.1, false)) << "the most repetitions";
}

TEST(Windows, RunEveryTaskOnEveryRankEquallyOften) {
  test::on_ranks([](const Communicator& ranks) {
    CommonClock clock(ranks);
    std::vector<int> runs(3);
    std::vector<double> message(3);
    std::vector<std::function<void()>> tasks;
    for (std::size_t task = 0; task < runs.size(); ++task) {
      tasks.emplace_back([&, task] {
        ++runs[task];
        ranks.all_reduce(std::span(message).first(task + 1));  // would show another order
      });
    }
    const StoppingRule rule{.wanted = 0, .fewest = 12, .most = 12, .least_seconds = 0};
    const Measurements measured = measure_in_windows(tasks, ranks, clock, rule);
    ASSERT_EQ(measured.tasks.size(), tasks.size());
    for (std::size_t task = 0; task < tasks.size(); ++task) {
      const Measurement& result = measured.tasks[task];
      const std::size_t repetitions = result.arrivals.repetitions();
      EXPECT_GE(repetitions, rule.fewest);
      EXPECT_EQ(static_cast<std::size_t>(runs[task]), repetitions + 2) << "with the warm-up";
      EXPECT_LE(result.late, repetitions);
      EXPECT_EQ(result.arrivals.ranks(), static_cast<std::size_t>(ranks.size()));
      for (const double time : result.arrivals.after_last_arrival()) {
        EXPECT_GE(time, 0);
      }
    }
  });
}

TEST(Windows, EndWithTheirTimeAndSayThatItWasNotEnough) {
  test::on_ranks([](const Communicator& ranks) {
    CommonClock clock(ranks);
    int runs = 0;
    const std::function<void()> erratic = [&] {
      std::this_thread::sleep_for(std::chrono::microseconds(++runs % 2 == 0 ? 2000 : 100));
    };
    const StoppingRule rule{.wanted = 1e-9, .fewest = 6, .least_seconds = 0, .most_seconds = 0.05};
    EXPECT_FALSE(measure_in_windows({&erratic, 1}, ranks, clock, rule).enough);
  });
}

TEST(LayerExchanges, NameTheRankThatComesLate) {
  test::on_ranks([](const Communicator& ranks) {
    const Communicator group = ranks.split(0);
    const CommonClock clock(group);
    const int slow = group.size() - 1;
    BatchNorm layer(4, group, {.name = "bn"});
    const Shape shape{.n = 2, .c = 4, .s = 3};
    std::vector<float> x(24, 1), y(24), dy(24, 1), dx(24);
    ForwardRecord record;
    layer.forward({x.data(), shape}, {y.data(), shape}, record);  // not to be counted
    const std::int64_t before = group.counters().exchanges;
    constexpr int steps = 20;
    for (int step = 0; step < steps; ++step) {
      if (group.rank() == slow) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      layer.forward({x.data(), shape}, {y.data(), shape}, record);
      layer.backward(record, {x.data(), shape}, {dy.data(), shape}, {dx.data(), shape});
    }
    const auto exchanges = layer_exchanges(group, clock, before);
    if (group.size() == 1) {
      EXPECT_FALSE(exchanges);
      return;
    }
    ASSERT_TRUE(exchanges);
    EXPECT_FALSE(exchanges->in_blocks);
    const Arrivals& arrivals = exchanges->arrivals;
    EXPECT_EQ(arrivals.repetitions(), 2 * steps);
    // Every other exchange is a forward's, to which the slow rank comes 20 ms late, unless the
    // machine holds up the others as long.
    const double most_of_the_delay = 0.01;
    const auto late = [&](std::size_t rank) {
      return std::ranges::count_if(arrivals.lag(rank),
                                   [&](double lag) { return lag > most_of_the_delay; });
    };
    EXPECT_GE(late(static_cast<std::size_t>(slow)), steps / 2);
    EXPECT_LE(late(0), steps / 2);
    EXPECT_FALSE(layer_exchanges(group, clock, group.counters().exchanges));
  });
}

}  // namespace
}  // namespace syncbn::app::scale
