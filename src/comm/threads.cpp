// SPDX-License-Identifier: Apache-2.0
//
// Ranks as threads of one process. They meet at a board: each posts where its message lies and
// waits; the last to come sums all messages in rank order, writes the sum into each, and lets the
// others go. One copy of the algorithm's bytes per rank, no message is moved twice.

#include <algorithm>
#include <condition_variable>
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
      : timeout_(timeout),
        posted_(static_cast<std::size_t>(ranks)),
        waiting_(static_cast<std::size_t>(ranks), false),
        gone_(static_cast<std::size_t>(ranks), false) {}

  int size() const { return static_cast<int>(posted_.size()); }

  void all_reduce(int rank, std::span<double> message) {
    std::unique_lock lock(mutex_);
    throw_if_failed();
    const auto self = static_cast<std::size_t>(rank);
    posted_[self] = message;
    waiting_[self] = true;
    if (std::ranges::all_of(waiting_, [](bool waits) { return waits; })) {
      finish_round();
      throw_if_failed();
      return;
    }
    const std::int64_t round = round_;
    const auto done = [&] { return round_ != round || !failure_.empty() || someone_left(); };
    const bool in_time = moved_.wait_for(lock, timeout_, done);
    if (round_ != round) {
      throw_if_failed();
      return;
    }
    if (failure_.empty()) {
      fail(in_time ? missing(gone_) + " left the group"
                   : missing_ranks() + " did not come within " + in_seconds(timeout_));
    }
    throw_if_failed();
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

  void finish_round() {
    const std::span<double> sum = posted_[0];
    const bool equal = std::ranges::all_of(
        posted_, [&](std::span<double> message) { return message.size() == sum.size(); });
    if (!equal) {
      std::string lengths;
      for (const std::span<double> message : posted_) {
        lengths += (lengths.empty() ? "" : ", ") + std::to_string(message.size());
      }
      fail("the ranks' messages differ in length (" + lengths +
           " values): they are not in the same exchange");
    } else {
      for (std::size_t rank = 1; rank < posted_.size(); ++rank) {
        std::ranges::transform(sum, posted_[rank], sum.begin(), std::plus<>());
      }
      for (std::size_t rank = 1; rank < posted_.size(); ++rank) {
        std::ranges::copy(sum, posted_[rank].begin());
      }
    }
    waiting_.assign(waiting_.size(), false);
    ++round_;
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

  bool someone_left() const {
    return std::ranges::any_of(gone_, [](bool gone) { return gone; });
  }

  static std::string missing(const std::vector<bool>& who) {
    std::string ranks;
    for (std::size_t rank = 0; rank < who.size(); ++rank) {
      if (who[rank]) {
        ranks += (ranks.empty() ? "rank " : ", rank ") + std::to_string(rank);
      }
    }
    return ranks;
  }

  std::string missing_ranks() const {
    std::vector<bool> absent(waiting_);
    absent.flip();
    return missing(absent);
  }

  const std::chrono::milliseconds timeout_;
  std::mutex mutex_;
  std::condition_variable moved_;
  std::vector<std::span<double>> posted_;
  std::vector<bool> waiting_;  ///< who is in the current round
  std::vector<bool> gone_;     ///< whose transport was destroyed
  std::int64_t round_ = 0;
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
  void all_reduce(std::span<double> message) override { board_->all_reduce(rank_, message); }

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
