// SPDX-License-Identifier: Apache-2.0
#include "trainer/agreement.hpp"

#include <new>
#include <string>

#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::trainer {
namespace {

std::string refusal(const Communicator& ranks, const std::function<void()>& work) {
  return test::failure_of<FileError>([&] { agree(ranks, work); });
}

TEST(Agreement, IsReachedWhenAllSucceed) {
  test::on_ranks([](const Communicator& ranks) {
    int calls = 0;
    agree(ranks, [&] { ++calls; });
    EXPECT_EQ(calls, 1);
  });
}

TEST(Agreement, TellsAllWhoFailedAndWhy) {
  test::on_ranks([](const Communicator& ranks) {
    const int last = ranks.size() - 1;
    const std::string why = refusal(ranks, [&] {
      if (ranks.rank() == last) {
        throw FileError("no data");
      }
    });
    EXPECT_EQ(why, last == 0 ? "no data" : "rank " + std::to_string(last) + ": no data");
    agree(ranks, [] {});  // and goes on
  });
}

TEST(Agreement, ListsDifferentReasons) {
  test::on_ranks([](const Communicator& ranks) {
    if (ranks.size() < 3) {
      return;
    }
    const std::string why = refusal(ranks, [&] {
      if (ranks.rank() > 0) {
        throw std::runtime_error(ranks.rank() == 1 ? "b\xc3\xa4" : "a, a longer text");
      }
    });
    EXPECT_EQ(why, ranks.size() == 3 ? "rank 2: a, a longer text; rank 1: b\xc3\xa4"
                                     : "ranks 2, 3: a, a longer text; rank 1: b\xc3\xa4");
  });
}

TEST(Agreement, SaysOnceWhatAllHave) {
  test::on_ranks([](const Communicator& ranks) {
    EXPECT_EQ(refusal(ranks, [] { throw FileError("no data"); }), "no data");
  });
}

TEST(Differences, AreNoneWhereAllGiveTheSame) {
  test::on_ranks([](const Communicator& ranks) {
    EXPECT_EQ(differences(ranks, ""), "");
    EXPECT_EQ(differences(ranks, "step 4"), "");
  });
}

TEST(Differences, NameWhoGivesWhat) {
  test::on_ranks([](const Communicator& ranks) {
    const std::string unlike = differences(ranks, ranks.rank() == 1 ? "step 8" : "step 4");
    const std::string expected[] = {"", "rank 0: step 4; rank 1: step 8",
                                    "ranks 0, 2: step 4; rank 1: step 8",
                                    "ranks 0, 2, 3: step 4; rank 1: step 8"};
    EXPECT_EQ(unlike, expected[ranks.size() - 1]);
  });
}

TEST(Agreement, TellsThatMemoryRanOut) {
  test::on_ranks([](const Communicator& ranks) {
    EXPECT_EQ(refusal(ranks, [] { throw std::bad_alloc(); }), "memory ran out");
  });
}

}  // namespace
}  // namespace syncbn::trainer
