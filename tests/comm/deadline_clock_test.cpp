// SPDX-License-Identifier: Apache-2.0
#include "comm/group/deadline_clock.hpp"

#include <chrono>
#include <vector>

#include <gtest/gtest.h>

namespace syncbn::comm {
namespace {

using namespace std::chrono_literals;
using Due = DeadlineClock::Due;

/// A clock that is looked at after given times.
class Looks {
 public:
  explicit Looks(Deadlines deadlines) : clock(deadlines) { clock.restart(now_); }

  Due after(DeadlineClock::Clock::duration time) { return clock.look(now_ += time); }

  DeadlineClock clock;

 private:
  DeadlineClock::Clock::time_point now_{};
};

TEST(DeadlineClock, ReportsOnceAndThenFails) {
  Looks looks({3s, 1s});
  EXPECT_EQ(looks.after(900ms), Due::nothing);
  EXPECT_EQ(looks.after(200ms), Due::report);
  EXPECT_EQ(looks.after(200ms), Due::report) << "none has been made yet";
  looks.clock.report_is_made();
  EXPECT_EQ(looks.after(900ms), Due::nothing);
  EXPECT_EQ(looks.after(900ms), Due::fail);
  EXPECT_EQ(looks.clock.waited(), 3100ms);
}

TEST(DeadlineClock, MakesNoReportThatComesWithTheFailure) {
  for (const Deadlines& deadlines : {Deadlines(1s, 1s), Deadlines(1s, 2s), Deadlines(1s, 900ms)}) {
    Looks looks(deadlines);
    EXPECT_EQ(looks.after(800ms), Due::nothing);
    EXPECT_EQ(looks.after(300ms), Due::fail);
  }
}

TEST(DeadlineClock, DoesNotCountTimeInWhichTheProcessWasStopped) {
  Looks looks({3s, 2s});
  EXPECT_EQ(looks.after(10min), Due::nothing);
  EXPECT_EQ(looks.clock.waited(), 1s);
  EXPECT_EQ(looks.after(10min), Due::report);
  EXPECT_EQ(looks.after(10min), Due::fail);
}

TEST(DeadlineClock, BeginsAnewWithAReportOfItsOwn) {
  Looks looks({3s, 1s});
  EXPECT_EQ(looks.after(1s), Due::report);
  looks.clock.report_is_made();
  looks.clock.restart(DeadlineClock::Clock::time_point(1s));
  EXPECT_EQ(looks.clock.waited(), 0s);
  EXPECT_EQ(looks.after(900ms), Due::nothing);
  EXPECT_EQ(looks.after(100ms), Due::report);
}

TEST(DeadlineClock, CallsWhatIsDueWithItsDeadline) {
  const DeadlineClock::Clock::time_point begin{};
  DeadlineClock clock(Deadlines(3s, 1s));
  clock.restart(begin);
  std::vector<std::chrono::milliseconds> reports;
  const auto look_at = [&](DeadlineClock::Clock::duration time) {
    clock.look([&](std::chrono::milliseconds deadline) { reports.push_back(deadline); },
               [](std::chrono::milliseconds deadline) { throw deadline; }, begin + time);
  };
  look_at(900ms);
  EXPECT_TRUE(reports.empty());
  look_at(1800ms);
  look_at(2700ms);
  EXPECT_EQ(reports, std::vector<std::chrono::milliseconds>{1s}) << "once";
  try {
    look_at(3600ms);
    FAIL() << "nothing thrown";
  } catch (std::chrono::milliseconds deadline) {
    EXPECT_EQ(deadline, 3s);
  }
}

TEST(DeadlineClock, AddsToWhatHasBeenWaitedBefore) {
  DeadlineClock clock({3s, 1s}, 2900ms);
  EXPECT_EQ(clock.look(DeadlineClock::Clock::now() + 200ms), Due::fail);
}

}  // namespace
}  // namespace syncbn::comm
