// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <clocale>
#include <cstdlib>
#include <future>
#include <locale>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/group/access.hpp"
#include "comm/group/deadlines.hpp"
#include "comm/group/flight_files.hpp"
#include "comm/group/group.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

std::string all_reduce_failure(const Communicator& group) {
  std::vector<double> data(3);
  return test::failure_of<CommError>([&] { group.all_reduce(data); });
}

TEST(ThreadRanks, AMissingRankIsNamedAtTheDeadline) {
  std::vector<Communicator> group = Communicator::threads(3, std::chrono::seconds(1));
  std::string first;
  std::thread other([&] { first = all_reduce_failure(group[0]); });
  const std::string second = all_reduce_failure(group[2]);
  other.join();
  EXPECT_THAT(first, AllOf(HasSubstr("rank 1 did not come within 1 s"), HasSubstr("rank 0 of 3")));
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
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
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
      Communicator::threads(2, Deadlines(std::chrono::seconds(4), milliseconds(50)));
  std::vector<double> data(3);
  PendingSum posted = group[1].start(data);  // so that nobody waits
  EXPECT_EQ(all_reduce_failure(group[0]), "");
  group[1].finish(posted);
  EXPECT_TRUE(lines.empty()) << lines.front();
  EXPECT_THAT(all_reduce_failure(group[0]),
              AllOf(HasSubstr("rank 1 did not come within 4 s"),
                    HasSubstr("the last it did: exchange #1, all_reduce of 3 values, finished")));
  set_report_handler({});
  ASSERT_EQ(lines.size(), 1);
  EXPECT_THAT(lines[0], AllOf(HasSubstr("rank 0, all_reduce of 3 values"),
                              HasSubstr("rank 1 did not come within 0.05 s")));
}

TEST(ThreadRanks, OfARankThatWasReportedItIsToldThatItCame) {
  std::vector<std::string> lines;
  std::promise<void> reported;
  set_report_handler([&](std::string_view line) {
    lines.emplace_back(line);
    if (lines.size() == 1) {
      reported.set_value();
    }
  });
  using std::chrono::milliseconds;
  std::vector<Communicator> group =
      Communicator::threads(2, Deadlines(std::chrono::seconds(60), milliseconds(50)));
  std::thread other([&] {
    EXPECT_EQ(reported.get_future().wait_for(test::patience), std::future_status::ready);
    EXPECT_EQ(all_reduce_failure(group[1]), "");
  });
  EXPECT_EQ(all_reduce_failure(group[0]), "");
  other.join();
  set_report_handler({});
  ASSERT_EQ(lines.size(), 2);
  EXPECT_THAT(lines[0], HasSubstr("rank 1 did not come within 0.05 s"));
  EXPECT_THAT(lines[1], MatchesRegex("rank 0, all_reduce of 3 values: went on after [0-9.]+ s"));
}

TEST(ThreadRanks, ARankThatPostsButDoesNotGoOnIsNamed) {
  // Of 10,000 values each rank sums a slice.
  std::vector<Communicator> group = Communicator::threads(3, std::chrono::seconds(1));
  std::vector<double> idle(10'000);
  static_cast<void>(group[1].start(idle));
  const auto failure_of = [&](int rank) {
    std::vector<double> data(10'000);
    const Communicator& own = group[static_cast<std::size_t>(rank)];
    return test::failure_of<CommError>([&] { own.all_reduce(data); });
  };
  std::string first;
  std::thread other([&] { first = failure_of(0); });
  const std::string last = failure_of(2);
  other.join();
  EXPECT_THAT(first, HasSubstr("rank 1 did not come within 1 s"));
  EXPECT_THAT(last, HasSubstr("rank 1 did not come within 1 s"));
}

TEST(ThreadRanks, NamesOnlyTheRankThatHasNotPostedALongMessage) {
  // Of 30,000 values each of the five ranks sums a slice, which takes all ranks' values.
  std::vector<Communicator> group = Communicator::threads(5, std::chrono::seconds(1));
  std::vector<std::string> failures(group.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < group.size(); ++rank) {
    if (rank != 3) {
      threads.emplace_back([&, rank] {
        std::vector<double> data(30'000);
        try {
          group[rank].all_reduce(data);
        } catch (const CommError& error) {
          failures[rank] = error.what();
        }
      });
    }
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const std::size_t rank : {0, 1, 2, 4}) {
    EXPECT_THAT(failures[rank], HasSubstr(": rank 3 did not come within 1 s"));
  }
}

TEST(ThreadRanks, TellsWhatAMissingRankRefusedLast) {
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::milliseconds(200));
  comm::Access::group(group[1]).refused("weight[2] is inf");
  comm::Access::group(group[1]).refused("weight[3] is NaN");
  EXPECT_THAT(all_reduce_failure(group[0]),
              AllOf(HasSubstr("rank 1 did not come within 0.2 s"),
                    HasSubstr("; the last it refused: weight[3] is NaN")));
}

TEST(ThreadRanks, ForgetsWhatWasRefusedBeforeALaterExchange) {
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::milliseconds(200));
  comm::Access::group(group[1]).refused("weight[3] is NaN");
  std::vector<double> data(3);
  PendingSum posted = group[1].start(data);  // so that nobody waits
  EXPECT_EQ(all_reduce_failure(group[0]), "");
  group[1].finish(posted);
  EXPECT_THAT(all_reduce_failure(group[0]), testing::Not(HasSubstr("refused")));
}

TEST(ThreadRanks, OfSeveralSumsUnderWayTheOneInDisputeIsNamed) {
  // Both ranks start eight; of the seventh they think differently.
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::seconds(60));
  const auto failure_of = [&](std::size_t rank) {
    std::vector<std::vector<double>> data;
    std::vector<PendingSum> sums;
    for (std::size_t i = 0; i < 8; ++i) {
      data.emplace_back(i == 6 ? 100 + rank : 100, 1.0 + static_cast<double>(i));
    }
    for (std::vector<double>& values : data) {
      sums.push_back(group[rank].start(values));
    }
    for (std::size_t i = 0; i < 8; ++i) {
      try {
        group[rank].finish(sums[i]);
      } catch (const CommError& error) {
        EXPECT_LE(i, 6U);  // a rank may come to the seventh while it finishes one before
        return std::string(error.what());
      }
      EXPECT_THAT(data[i], testing::Each(2.0 * (1.0 + static_cast<double>(i))));
    }
    return std::string();
  };
  std::string first;
  std::thread other([&] { first = failure_of(0); });
  const std::string second = failure_of(1);
  other.join();
  for (const std::string& failure : {first, second}) {
    EXPECT_THAT(failure, AllOf(HasSubstr("rank 0: exchange #7, all_reduce of 100 values"),
                               HasSubstr("rank 1: exchange #7, all_reduce of 101 values")));
  }
}

TEST(ThreadRanks, ARankThatGoesInTheMiddleLeavesTheSumsBefore) {
  // Both start eight. Rank 1 finishes three, which sends no more than what it started.
  std::vector<Communicator> group = Communicator::threads(2, std::chrono::seconds(60));
  std::vector<std::vector<double>> data(16, std::vector<double>(200, 1.0));
  std::thread other([&] {
    const Communicator own = std::exchange(group[1], Communicator::self());
    std::vector<PendingSum> sums;
    for (std::size_t i = 0; i < 8; ++i) {
      sums.push_back(own.start(data[8 + i]));
    }
    for (std::size_t i = 0; i < 3; ++i) {
      own.finish(sums[i]);
    }
  });
  std::vector<PendingSum> sums;
  for (std::size_t i = 0; i < 8; ++i) {
    sums.push_back(group[0].start(data[i]));
  }
  other.join();
  std::size_t finished = 0;
  std::string failure;
  try {
    for (; finished < 8; ++finished) {
      group[0].finish(sums[finished]);
      EXPECT_THAT(data[finished], testing::Each(2.0));
    }
  } catch (const CommError& error) {
    failure = error.what();
  }
  EXPECT_GE(finished, 3);
  EXPECT_LT(finished, 8);
  EXPECT_THAT(failure, HasSubstr("rank 1 left the group"));
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

/// Digits in groups of one, and a comma for the decimal point.
class Grouping : public std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '\''; }
  std::string do_grouping() const override { return "\1"; }
};

TEST(ThreadRanks, TextsDoNotDependOnTheLocale) {
  const std::locale before =
      std::locale::global(std::locale(std::locale::classic(), new Grouping()));
  EXPECT_EQ(comm::in_seconds(std::chrono::milliseconds(1'234'500)), "1234.5 s");
  const std::string record =
      comm::to_json({}, {.group = 0x123456789abcdef, .rank = 0, .size = 2}, "");
  std::locale::global(before);
  EXPECT_THAT(record, HasSubstr("\"123456789abcdef\""));
}

TEST(ThreadRanks, TimesOfTheEnvironmentAreReadInAnyLocale) {
  const std::string before = std::setlocale(LC_NUMERIC, nullptr);
  for (const char* name : {"C", "de_DE.UTF-8", "fr_FR.UTF-8"}) {
    std::setlocale(LC_NUMERIC, name);  // as it was where there is no such locale
    setenv("SYNCBN_TIMEOUT", "+0.25", 1);
    EXPECT_EQ(default_deadlines().fail, std::chrono::milliseconds(250)) << name;
    setenv("SYNCBN_TIMEOUT", " 1e3", 1);
    EXPECT_EQ(default_deadlines().fail, std::chrono::seconds(1000)) << name;
    setenv("SYNCBN_TIMEOUT", "1e999", 1);
    EXPECT_EQ(default_deadlines().fail, std::chrono::days(365)) << name;
  }
  unsetenv("SYNCBN_TIMEOUT");
  std::setlocale(LC_NUMERIC, before.c_str());
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
