// SPDX-License-Identifier: Apache-2.0
//
// What is put around a sum on the device, run here as it is there, on as many ranks as we like.

#include "comm/device/cuda/stamp.hpp"

#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "comm/device/board.hpp"
#include "comm/group/fingerprint_words.hpp"

namespace syncbn::comm {
namespace {

constexpr std::size_t length = 300;  // more than threads

struct Rank {
  std::uint64_t what = 7;
  std::uint64_t state = 11;
  Board board{};
  cuda::Tally tally{};
  std::vector<double> values = std::vector<double>(length + fingerprint_words, 1.0);

  cuda::Stamped message() { return {what, 0, values.data() + length, &tally, &board, &state}; }
  bool is_poisoned() const {
    for (std::size_t i = 0; i < length; ++i) {
      if (!std::isnan(values[i])) {
        return false;
      }
    }
    return true;
  }
};

void stamp(Rank& rank) {
  cuda::Stamp{rank.message()}();
}

void verify(Rank& rank, std::size_t ranks) {
  const cuda::Verify kernel{rank.message(), rank.values.data(), length, static_cast<int>(ranks)};
  for (std::size_t thread = 0; thread < cuda::Verify::threads; ++thread) {
    kernel(thread);
  }
}

/// One message of all ranks, each of ones.
void exchange(std::vector<Rank>& ranks) {
  std::vector<double> sum(length + fingerprint_words, 0.0);
  for (Rank& rank : ranks) {
    std::fill_n(rank.values.begin(), length, 1.0);
    stamp(rank);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += rank.values[i];
    }
  }
  for (Rank& rank : ranks) {
    rank.values = sum;
    verify(rank, ranks.size());
  }
}

void expect_sum(const std::vector<Rank>& ranks) {
  for (const Rank& rank : ranks) {
    EXPECT_EQ(std::vector<double>(rank.values.begin(), rank.values.begin() + length),
              std::vector<double>(length, static_cast<double>(ranks.size())));
    EXPECT_EQ(rank.board.disagreed, 0U);
  }
}

TEST(Stamp, RanksThatAgreeGetTheSum) {
  for (const std::size_t size : {1, 2, 3, 8, 1000}) {
    std::vector<Rank> ranks(size);
    for (int message = 1; message <= 3; ++message) {
      exchange(ranks);
      expect_sum(ranks);
      EXPECT_EQ(ranks.back().board.started, static_cast<std::uint64_t>(message));
      EXPECT_EQ(ranks.back().board.finished, static_cast<std::uint64_t>(message));
    }
  }
}

TEST(Stamp, AStartedMessageIsOnTheBoardBeforeItsSum) {
  Rank rank;
  stamp(rank);
  EXPECT_EQ(rank.board.started, 1U);
  EXPECT_EQ(rank.board.finished, 0U);
}

TEST(Stamp, AnotherMessageOnOneRankPoisonsItOnAll) {
  std::vector<Rank> ranks(4);
  exchange(ranks);
  ranks[2].what = 8;
  exchange(ranks);
  for (const Rank& rank : ranks) {
    EXPECT_TRUE(rank.is_poisoned());
    EXPECT_EQ(rank.board.disagreed, 2U);
    EXPECT_EQ(rank.board.finished, 2U);
  }
}

TEST(Stamp, AnotherStateInDeviceMemoryIsNoticed) {
  std::vector<Rank> ranks(3);
  exchange(ranks);
  ranks[1].state = 12;
  exchange(ranks);
  for (const Rank& rank : ranks) {
    EXPECT_TRUE(rank.is_poisoned());
    EXPECT_EQ(rank.board.disagreed, 2U);
    EXPECT_EQ(rank.board.disagreed_state, rank.state);
  }
}

// As where a rank has replayed a graph once more than the others.
TEST(Stamp, AnotherNumberOfMessagesBeforeIsNoticed) {
  std::vector<Rank> ranks(2);
  exchange(ranks);
  ranks[1].tally.messages += 1;
  exchange(ranks);
  EXPECT_TRUE(ranks[0].is_poisoned());
  EXPECT_TRUE(ranks[1].is_poisoned());
  EXPECT_EQ(ranks[0].board.disagreed, 2U);
  EXPECT_EQ(ranks[1].board.disagreed, 3U);
}

TEST(Stamp, MessagesAfterADisagreementStayPoisonedAndTheFirstIsOnTheBoard) {
  std::vector<Rank> ranks(2);
  ranks[0].what = 8;
  exchange(ranks);
  ranks[0].what = 7;
  exchange(ranks);
  for (const Rank& rank : ranks) {
    EXPECT_TRUE(rank.is_poisoned());
    EXPECT_EQ(rank.board.disagreed, 1U);
    EXPECT_EQ(rank.board.finished, 2U);
  }
}

// A sum that was aborted may be half of one: it is no disagreement, and no sum.
TEST(Stamp, ACancelledMessageIsPoisonedAndNotCalledADisagreement) {
  for (const bool arrived : {true, false}) {
    Rank rank;
    stamp(rank);
    if (!arrived) {
      rank.values[length] += 1;
    }
    post(rank.board.cancelled, 1);
    verify(rank, 1);
    EXPECT_TRUE(rank.is_poisoned());
    EXPECT_EQ(rank.board.disagreed, 0U);
    EXPECT_EQ(rank.board.finished, 1U);
  }
}

TEST(Stamp, NoValueIsTouchedBehindTheMessage) {
  Rank rank;
  rank.values.push_back(42);
  stamp(rank);
  rank.values[length] += 1;
  verify(rank, 1);
  EXPECT_TRUE(rank.is_poisoned());
  EXPECT_EQ(rank.values.back(), 42);
}

// As on a device: none of them waits for another, and the thread sanitizer looks on.
TEST(Stamp, ThreadsOfAVerificationRunAtOnce) {
  constexpr std::size_t workers = 4;
  Rank rank;
  for (std::uint64_t message = 1; message <= 2; ++message) {
    stamp(rank);
    rank.values[length] += 1;
    const cuda::Verify kernel{rank.message(), rank.values.data(), length, 1};
    std::vector<std::jthread> all;
    for (std::size_t worker = 0; worker < workers; ++worker) {
      all.emplace_back([&kernel, worker] {
        for (std::size_t thread = worker; thread < cuda::Verify::threads; thread += workers) {
          kernel(thread);
        }
      });
    }
    all.clear();
    EXPECT_TRUE(rank.is_poisoned());
    EXPECT_EQ(rank.board.disagreed, 1U);
    EXPECT_EQ(rank.board.finished, message);
  }
}

}  // namespace
}  // namespace syncbn::comm
