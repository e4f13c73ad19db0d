// SPDX-License-Identifier: Apache-2.0
//
// Ranks as threads of one process. They meet at a board: each posts a copy of its message to the
// round it belongs to; the last to come sums them in rank order; whoever waits for the round takes
// a copy of the sum. A round's place is used again when all have taken it.

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/group.hpp"
#include "comm/transport.hpp"

namespace syncbn {
namespace comm {
namespace {

class Board {
 public:
  Board(int ranks, std::chrono::milliseconds timeout)
      : timeout_(timeout), gone_(static_cast<std::size_t>(ranks), false) {}

  int size() const { return static_cast<int>(gone_.size()); }

  /// Posts the rank's message to the round of that number.
  void post(int rank, std::int64_t number, std::span<const double> message) {
    const std::scoped_lock lock(mutex_);
    throw_if_failed();
    Round& round = round_of(number);
    const auto self = static_cast<std::size_t>(rank);
    round.messages[self].assign(message.begin(), message.end());
    round.posted[self] = true;
    if (std::ranges::all_of(round.posted, [](bool posted) { return posted; })) {
      complete(round);
      throw_if_failed();
    }
  }

  /// Waits for the round and takes its sum.
  void take(std::int64_t number, std::span<double> sum) {
    std::unique_lock lock(mutex_);
    Round& round = round_of(number);
    const auto done = [&] { return round.complete || !failure_.empty() || someone_left(round); };
    const bool in_time = moved_.wait_for(lock, timeout_, done);
    if (!round.complete) {
      if (failure_.empty()) {
        fail(in_time
                 ? "rank " + list(gone_without(round)) + " left the group"
                 : "rank " + list(absent(round)) + " did not come within " + in_seconds(timeout_));
      }
      throw_if_failed();
    }
    std::ranges::copy(round.messages[0], sum.begin());
    if (++round.taken == size()) {
      round.number = none;
    }
  }

  void leave(int rank) {
    const std::scoped_lock lock(mutex_);
    gone_[static_cast<std::size_t>(rank)] = true;
    moved_.notify_all();
  }

  /// The board of the ranks that named this color in the `split`-th split, made by the first to
  /// ask.
  std::shared_ptr<Board> child(std::int64_t split, int color, int members) {
    const std::scoped_lock lock(mutex_);
    const auto key = std::pair(split, color);
    Children& entry = children_[key];
    if (!entry.board) {
      entry.board = std::make_shared<Board>(members, timeout_);
    }
    std::shared_ptr<Board> board = entry.board;
    if (++entry.taken == members) {
      children_.erase(key);
    }
    return board;
  }

 private:
  struct Children {
    std::shared_ptr<Board> board;
    int taken = 0;
  };

  static constexpr std::int64_t none = -1;
  struct Round {
    std::int64_t number = none;
    std::vector<std::vector<double>> messages;  ///< when it is complete, the first is the sum
    std::vector<bool> posted;
    bool complete = false;
    int taken = 0;
  };

  Round& round_of(std::int64_t number) {
    auto found = std::ranges::find(rounds_, number, &Round::number);
    if (found == rounds_.end()) {
      found = std::ranges::find(rounds_, none, &Round::number);
      if (found == rounds_.end()) {
        found = rounds_.emplace(rounds_.end());
        found->messages.resize(gone_.size());
      }
      found->number = number;
      found->posted.assign(gone_.size(), false);
      found->complete = false;
      found->taken = 0;
    }
    return *found;
  }

  void complete(Round& round) {
    std::vector<double>& sum = round.messages[0];
    const bool equal = std::ranges::all_of(
        round.messages, [&](const auto& message) { return message.size() == sum.size(); });
    if (!equal) {
      std::string lengths;
      for (const std::vector<double>& message : round.messages) {
        lengths += (lengths.empty() ? "" : ", ") + std::to_string(message.size());
      }
      fail("the ranks' messages differ in length (" + lengths +
           " values): they are not in the same exchange");
      return;
    }
    for (std::size_t rank = 1; rank < round.messages.size(); ++rank) {
      std::ranges::transform(sum, round.messages[rank], sum.begin(), std::plus<>());
    }
    round.complete = true;
    moved_.notify_all();
  }

  void fail(std::string why) {
    failure_ = std::move(why);
    moved_.notify_all();
  }

  void throw_if_failed() const {
    if (!failure_.empty()) {
      throw CommError(failure_);
    }
  }

  std::vector<bool> absent(const Round& round) const {
    std::vector<bool> ranks(round.posted);
    ranks.flip();
    return ranks;
  }
  // Those who posted before they left are not missed.
  std::vector<bool> gone_without(const Round& round) const {
    std::vector<bool> ranks = absent(round);
    std::transform(ranks.begin(), ranks.end(), gone_.begin(), ranks.begin(), std::logical_and<>());
    return ranks;
  }
  bool someone_left(const Round& round) const {
    return std::ranges::any_of(gone_without(round), [](bool gone) { return gone; });
  }

  static std::string list(const std::vector<bool>& who) {
    std::string ranks;
    for (std::size_t rank = 0; rank < who.size(); ++rank) {
      if (who[rank]) {
        ranks += (ranks.empty() ? "" : ", rank ") + std::to_string(rank);
      }
    }
    return ranks;
  }

  const std::chrono::milliseconds timeout_;
  std::mutex mutex_;
  std::condition_variable moved_;
  std::list<Round> rounds_;
  std::vector<bool> gone_;  ///< whose transport was destroyed
  std::string failure_;
  std::map<std::pair<std::int64_t, int>, Children> children_;
};

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(std::shared_ptr<Board> board, int rank) : board_(std::move(board)), rank_(rank) {}
  ThreadTransport(const ThreadTransport&) = delete;
  ThreadTransport& operator=(const ThreadTransport&) = delete;
  ~ThreadTransport() override { board_->leave(rank_); }

  int rank() const override { return rank_; }
  int size() const override { return board_->size(); }
  std::size_t start(std::span<const double> message) override {
    board_->post(rank_, rounds_, message);
    return static_cast<std::size_t>(rounds_++);
  }
  void finish(std::size_t started, std::span<double> sum) override {
    board_->take(static_cast<std::int64_t>(started), sum);
  }

  std::unique_ptr<Transport> split(std::span<const int> colors) override {
    const int color = colors[static_cast<std::size_t>(rank_)];
    const auto members = static_cast<int>(std::ranges::count(colors, color));
    const auto rank =
        static_cast<int>(std::ranges::count(colors.first(static_cast<std::size_t>(rank_)), color));
    return std::make_unique<ThreadTransport>(board_->child(++splits_, color, members), rank);
  }

 private:
  std::shared_ptr<Board> board_;
  int rank_;
  std::int64_t rounds_ = 0;
  std::int64_t splits_ = 0;
};

}  // namespace
}  // namespace comm

std::vector<Communicator> Communicator::threads(int ranks, std::chrono::milliseconds timeout) {
  if (ranks < 1) {
    throw InvalidArgument(std::to_string(ranks) + " threads as ranks (at least 1)");
  }
  const auto board = std::make_shared<comm::Board>(ranks, comm::validated(timeout));
  std::vector<Communicator> group;
  for (int rank = 0; rank < ranks; ++rank) {
    group.emplace_back(
        std::make_shared<comm::Group>(std::make_unique<comm::ThreadTransport>(board, rank)));
  }
  return group;
}

}  // namespace syncbn
