// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

namespace syncbn {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

std::string all_reduce_failure(const Communicator& group) {
  std::vector<double> data(3);
  try {
    group.all_reduce(data);
    return "";
  } catch (const CommError& error) {
    return error.what();
  }
}

TEST(ThreadRanks, AMissingRankIsNamedAtTheDeadline) {
  std::vector<Communicator> group = Communicator::threads(3, std::chrono::milliseconds(200));
  std::string first;
  std::thread other([&] { first = all_reduce_failure(group[0]); });
  const std::string second = all_reduce_failure(group[2]);
  other.join();
  EXPECT_THAT(first,
              AllOf(HasSubstr("rank 1 did not come within 0.2 s"), HasSubstr("rank 0 of 3")));
  EXPECT_THAT(second, HasSubstr("rank 1 did not come"));
}

TEST(ThreadRanks, ALatecomerIsToldThatItMissedTheExchange) {
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::milliseconds(50));
  EXPECT_THAT(all_reduce_failure(group[0]), HasSubstr("rank 1 did not come"));
  EXPECT_THAT(all_reduce_failure(group[1]), HasSubstr("rank 1 did not come"));
}

TEST(ThreadRanks, ARankThatLeavesIsReportedAtOnce) {
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::minutes(10));
  const auto start = std::chrono::steady_clock::now();
  std::thread leaver([own = std::move(group[1])]() mutable {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    own = Communicator::self();
  });
  EXPECT_THAT(all_reduce_failure(group[0]), HasSubstr("rank 1 left the group"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  leaver.join();
}

TEST(ThreadRanks, LeavingAfterTheLastExchangeHarmsNobody) {
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<Communicator> group = Communicator::threads(3);
    std::vector<std::thread> threads;
    for (Communicator& own : group) {
      threads.emplace_back([mine = std::move(own)] { EXPECT_EQ(all_reduce_failure(mine), ""); });
    }
    group.clear();
    for (std::thread& thread : threads) {
      thread.join();
    }
  }
}

TEST(ThreadRanks, AMissingRankIsReportedOnceBeforeTheDeadline) {
  std::vector<std::string> lines;
  set_report_handler([&](std::string_view line) { lines.emplace_back(line); });
  using std::chrono::milliseconds;
  std::vector<Communicator> group =
      Communicator::threads(2, Deadlines(milliseconds(400), milliseconds(50)));
  std::vector<double> data(3);
  std::thread other([&] { EXPECT_EQ(all_reduce_failure(group[1]), ""); });
  EXPECT_EQ(all_reduce_failure(group[0]), "");
  other.join();
  EXPECT_TRUE(lines.empty()) << lines.front();
  EXPECT_THAT(all_reduce_failure(group[0]),
              AllOf(HasSubstr("rank 1 did not come within 0.4 s"),
                    HasSubstr("the last it did: exchange #1, all_reduce of 3 values, finished")));
  set_report_handler({});
  ASSERT_EQ(lines.size(), 1);
  EXPECT_THAT(lines[0], AllOf(HasSubstr("rank 0, all_reduce of 3 values"),
                              HasSubstr("rank 1 did not come within 0.05 s")));
}

TEST(ThreadRanks, OfARankThatWasReportedItIsToldThatItCame) {
  std::vector<std::string> lines;
  set_report_handler([&](std::string_view line) { lines.emplace_back(line); });
  using std::chrono::milliseconds;
  std::vector<Communicator> group =
      Communicator::threads(2, Deadlines(std::chrono::seconds(60), milliseconds(50)));
  std::thread other([&] {
    std::this_thread::sleep_for(milliseconds(300));
    EXPECT_EQ(all_reduce_failure(group[1]), "");
  });
  EXPECT_EQ(all_reduce_failure(group[0]), "");
  other.join();
  set_report_handler({});
  ASSERT_EQ(lines.size(), 2);
  EXPECT_THAT(lines[0], HasSubstr("rank 1 did not come within 0.05 s"));
  EXPECT_THAT(lines[1], MatchesRegex("rank 0, all_reduce of 3 values: went on after 0\\.[0-9]+ s"));
}

TEST(ThreadRanks, ARankThatPostsButDoesNotGoOnIsNamed) {
  // Of 10,000 values each rank sums a slice.
  std::vector<Communicator> group = Communicator::threads(3, std::chrono::milliseconds(300));
  std::vector<double> idle(10'000);
  static_cast<void>(group[1].start(idle));
  const auto failure_of = [&](int rank) {
    std::vector<double> data(10'000);
    try {
      group[static_cast<std::size_t>(rank)].all_reduce(data);
      return std::string();
    } catch (const CommError& error) {
      return std::string(error.what());
    }
  };
  std::string first;
  std::thread other([&] { first = failure_of(0); });
  const std::string last = failure_of(2);
  other.join();
  EXPECT_THAT(first, HasSubstr("rank 1 did not come within 0.3 s"));
  EXPECT_THAT(last, HasSubstr("rank 1 did not come within 0.3 s"));
}

TEST(ThreadRanks, AHandlerThatThrowsHarmsNothing) {
  set_report_handler([](std::string_view) { throw 42; });
  std::vector<Communicator> group = Communicator::threads(
      2, Deadlines(std::chrono::milliseconds(100), std::chrono::milliseconds(10)));
  EXPECT_THAT(all_reduce_failure(group[0]), HasSubstr("rank 1 did not come within 0.1 s"));
  set_report_handler({});
}

TEST(ThreadRanks, DeadlinesComeFromTheEnvironment) {
  setenv("SYNCBN_TIMEOUT", "0.25", 1);
  EXPECT_EQ(default_deadlines().fail, std::chrono::milliseconds(250));
  EXPECT_EQ(default_deadlines().report, std::chrono::milliseconds(125));
  setenv("SYNCBN_REPORT_AFTER", "0.1", 1);
  EXPECT_EQ(default_deadlines().report, std::chrono::milliseconds(100));
  EXPECT_EQ(default_deadlines(std::chrono::seconds(7)).fail, std::chrono::seconds(7));
  for (const char* bad : {"soon", "-1", "0", "3 s", "nan"}) {
    setenv("SYNCBN_TIMEOUT", bad, 1);
    EXPECT_THROW(default_deadlines(), InvalidArgument) << bad;
  }
  unsetenv("SYNCBN_TIMEOUT");
  unsetenv("SYNCBN_REPORT_AFTER");
  EXPECT_EQ(default_deadlines().fail, default_timeout);
}

TEST(ThreadRanks, TheLongestTimeoutIsLong) {
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::milliseconds::max());
  std::thread late([own = std::move(group[1])] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(all_reduce_failure(own), "");
  });
  EXPECT_EQ(all_reduce_failure(group[0]), "");
  late.join();
}

TEST(ThreadRanks, NoRanksAndNoTimeAreRefused) {
  EXPECT_THROW(Communicator::threads(0), InvalidArgument);
  EXPECT_THROW(Communicator::threads(2, std::chrono::milliseconds(0)), InvalidArgument);
}

}  // namespace
}  // namespace syncbn
