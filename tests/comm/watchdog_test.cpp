// SPDX-License-Identifier: Apache-2.0
#include "comm/device/watchdog.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncbn::comm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// Work whose progress the test makes.
class Work : public Watched {
 public:
  Progress progress() override {
    ++looks;
    const std::uint64_t done = finished;
    return {started, done};
  }
  std::string trouble() override { return in_trouble ? "the cable is out" : ""; }
  void report_late(std::chrono::milliseconds) noexcept override { ++reports; }
  void fail(std::string_view why) noexcept override {
    reason = why;
    reports_before_failure = reports;
    ++failures;
  }

  std::atomic<std::uint64_t> started{0};
  std::atomic<std::uint64_t> finished{0};
  std::atomic<bool> in_trouble{false};
  std::atomic<int> looks{0};
  std::atomic<int> reports{0};
  std::atomic<int> failures{0};
  std::string reason;  ///< once there are failures
  int reports_before_failure = 0;
};

std::shared_ptr<Watchdog> quick() {
  return std::make_shared<Watchdog>(2ms);
}

/// Waits for it, at most long enough for a busy machine.
template <class Condition>
bool soon(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + 20s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

TEST(Watchdog, WorkThatStandsStillIsReportedOnceAndThenFails) {
  Work work;
  work.started = 5;
  work.finished = 4;
  const auto begin = std::chrono::steady_clock::now();
  const Watch watch(quick(), work, Deadlines(200ms, 50ms));
  ASSERT_TRUE(soon([&] { return work.reports == 1; }));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 50ms);
  ASSERT_TRUE(soon([&] { return work.failures == 1; }));
  EXPECT_EQ(work.reports_before_failure, 1);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 200ms);
  EXPECT_THAT(work.reason, HasSubstr("not finished within 0.2 s"));
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(work.reports, 1);
  EXPECT_EQ(work.failures, 1);
}

TEST(Watchdog, IdleWorkMayTakeForever) {
  Work work;
  work.started = work.finished = 5;
  const Watch watch(quick(), work, Deadlines(20ms, 10ms));
  ASSERT_TRUE(soon([&] { return work.looks > 50; }));
  EXPECT_EQ(work.reports, 0);
  EXPECT_EQ(work.failures, 0);
}

// Always busy, always another piece: also where every look falls into one.
TEST(Watchdog, WorkThatGoesOnIsNotLate) {
  class Busy final : public Work {
   public:
    Progress progress() override {
      const Progress now = Work::progress();
      return {now.started + static_cast<std::uint64_t>(looks) + 1,
              now.finished + static_cast<std::uint64_t>(looks)};
    }
  } work;
  const Watch watch(quick(), work, Deadlines(20ms, 10ms));
  ASSERT_TRUE(soon([&] { return work.looks > 50; }));
  EXPECT_EQ(work.reports, 0);
  EXPECT_EQ(work.failures, 0);
}

TEST(Watchdog, EveryPieceHasItsOwnDeadline) {
  Work work;
  work.started = 1;
  const Watch watch(quick(), work, Deadlines(10s, 20ms));
  ASSERT_TRUE(soon([&] { return work.reports == 1; }));
  work.started = 2;
  work.finished = 1;
  ASSERT_TRUE(soon([&] { return work.reports == 2; }));
  EXPECT_EQ(work.failures, 0);
}

TEST(Watchdog, TroubleFailsAtOnce) {
  Work work;
  const Watch watch(quick(), work, Deadlines(10min, 5min));
  work.in_trouble = true;
  ASSERT_TRUE(soon([&] { return work.failures == 1; }));
  EXPECT_EQ(work.reason, "the cable is out");
}

TEST(Watchdog, NoReportWhereItIsDueWithTheFailure) {
  Work work;
  work.started = 1;
  const Watch watch(quick(), work, Deadlines(20ms, 20ms));
  ASSERT_TRUE(soon([&] { return work.failures == 1; }));
  EXPECT_EQ(work.reports, 0);
}

// To end work on a device, other work there may have to end first.
TEST(Watchdog, OneFailureDoesNotWaitForAnother) {
  class Patient final : public Work {
   public:
    void fail(std::string_view why) noexcept override {
      other_failed = soon([&] { return other->failures == 1; });
      Work::fail(why);
    }
    const Work* other = nullptr;
    std::atomic<bool> other_failed{false};
  };
  const std::shared_ptr<Watchdog> watchdog = quick();
  Patient first;
  Work second;
  first.other = &second;
  first.started = second.started = 1;
  {
    const Watch one(watchdog, first, Deadlines(20ms));
    const Watch two(watchdog, second, Deadlines(40ms));
    ASSERT_TRUE(soon([&] { return second.failures == 1; }));
  }
  EXPECT_EQ(first.failures, 1) << "the end of a watch waits for what it has begun";
  EXPECT_TRUE(first.other_failed);
}

TEST(Watchdog, WhatIsNoLongerWatchedIsLeftAlone) {
  const std::shared_ptr<Watchdog> watchdog = quick();
  Work work;
  work.started = 1;
  { const Watch watch(watchdog, work, Deadlines(10min)); }
  const int looks = work.looks;
  std::this_thread::sleep_for(30ms);
  EXPECT_EQ(work.looks, looks);
}

TEST(Watchdog, TheProcesssIsThereWhileItIsHeld) {
  std::shared_ptr<Watchdog> first = Watchdog::of_process();
  EXPECT_EQ(Watchdog::of_process(), first);
  const std::weak_ptr<Watchdog> seen = first;
  first.reset();
  EXPECT_TRUE(seen.expired());
  EXPECT_NE(Watchdog::of_process(), nullptr);
}

}  // namespace
}  // namespace syncbn::comm
