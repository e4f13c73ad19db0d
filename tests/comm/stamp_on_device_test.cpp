// SPDX-License-Identifier: Apache-2.0
//
// The kernels around a sum, on a device: the same as stamp_test.cpp has them on the host.

#include <cmath>
#include <new>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "comm/device/board.hpp"
#include "comm/device/cuda/stamp.hpp"
#include "comm/device_values.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/pinned_buffer.hpp"

namespace syncbn::comm {
namespace {

constexpr std::size_t length = 300;

/// A rank's part of an exchange, whose sum the test makes.
class Rank {
 public:
  Rank() {
    tally_.clear(values_.stream());
    syncbn::cuda::StreamView(values_.stream()).synchronize();
  }

  void stamp(std::uint64_t what) { launch(cuda::Stamp{message(what)}, values_.stream()); }
  std::vector<double> words() const {
    std::vector<double> words(fingerprint_words);
    words_.download(std::as_writable_bytes(std::span(words)), values_.stream());
    syncbn::cuda::StreamView(values_.stream()).synchronize();
    return words;
  }

  void verify(std::uint64_t what, const std::vector<double>& summed_words, int ranks) {
    words_.upload(std::as_bytes(std::span(summed_words)), values_.stream());
    launch(cuda::Verify{message(what), values_.data(), length, ranks}, values_.stream());
    values_.read();
  }

  /// Puts a message on the stream that the ranks disagree on, and does not wait for it.
  void enqueue_disagreement(std::uint64_t what, std::uint64_t plan) {
    const cuda::Stamped own = message(what, plan);
    launch(cuda::Stamp{own}, values_.stream());
    words_.clear(values_.stream());
    launch(cuda::Verify{own, values_.data(), length, 2}, values_.stream());
  }

  std::vector<double> values() const { return values_.read(); }
  Board& board() { return board_; }

 private:
  cuda::Stamped message(std::uint64_t what, std::uint64_t plan = 3) {
    return {what, plan, words_.as<double>(), tally_.as<cuda::Tally>(), &board_};
  }

  test::DeviceValues values_{std::vector<double>(length, 1.0)};
  syncbn::cuda::DeviceBuffer tally_{sizeof(cuda::Tally)};
  syncbn::cuda::DeviceBuffer words_{fingerprint_words * sizeof(double)};
  syncbn::cuda::PinnedBuffer pinned_{sizeof(Board)};
  Board& board_ = *new (pinned_.data()) Board;
};

class StampOnDeviceTest : public test::OnDeviceTest {};

TEST_F(StampOnDeviceTest, WordsAreThoseOfTheHost) {
  Rank rank;
  for (std::uint64_t message = 1; message <= 3; ++message) {
    rank.stamp(7);
    cuda::Tally tally{message, 0};
    const std::uint64_t expected = cuda::Stamped{7, 3, nullptr, &tally, nullptr}.fingerprint();
    for (std::size_t i = 0; i < fingerprint_words; ++i) {
      EXPECT_EQ(rank.words()[i], fingerprint_word(expected, i));
    }
    EXPECT_EQ(rank.board().started, message);
    EXPECT_EQ(rank.board().started_plan, 3U);
    EXPECT_EQ(rank.board().finished, 0U);
  }
}

TEST_F(StampOnDeviceTest, WhatAgreesStaysAndWhatDoesNotIsPoisonedForGood) {
  Rank rank;
  rank.stamp(7);
  std::vector<double> summed = rank.words();
  for (double& word : summed) {
    word *= 2;
  }
  rank.verify(7, summed, 2);
  EXPECT_EQ(rank.values(), std::vector<double>(length, 1.0));
  EXPECT_EQ(rank.board().finished, 1U);
  EXPECT_EQ(rank.board().disagreed, 0U);

  rank.stamp(7);
  rank.verify(7, summed, 2);  // of the message before
  for (const double value : rank.values()) {
    EXPECT_TRUE(std::isnan(value));
  }
  EXPECT_EQ(rank.board().finished, 2U);
  EXPECT_EQ(rank.board().disagreed, 2U);
  EXPECT_EQ(rank.board().disagreed_plan, 3U);
}

TEST_F(StampOnDeviceTest, WhatTheHostHasCancelledIsPoisoned) {
  Rank rank;
  rank.stamp(7);
  post(rank.board().cancelled, 1);
  rank.verify(7, rank.words(), 1);
  EXPECT_TRUE(std::isnan(rank.values().back()));
  EXPECT_EQ(rank.board().disagreed, 0U);
}

// The host looks at the board while the device is at work: whoever has seen the word that was
// posted last sees what was written before it.
TEST_F(StampOnDeviceTest, TheHostSeesWhatWasWrittenBeforeAPostedWord) {
  for (int turn = 0; turn < 50; ++turn) {
    Rank rank;
    rank.enqueue_disagreement(7, 5);
    const Board& board = rank.board();
    while (look(board.disagreed) == 0) {
    }
    EXPECT_EQ(board.disagreed_plan, 5U);
    EXPECT_EQ(look(board.started), 1U);
    EXPECT_EQ(look(board.started_plan), 5U);
    rank.values();
    EXPECT_EQ(look(board.finished), 1U);
  }
}

}  // namespace
}  // namespace syncbn::comm
