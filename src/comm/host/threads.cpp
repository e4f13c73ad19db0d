// SPDX-License-Identifier: Apache-2.0
//
// The ranks are threads of one process. They exchange as processes of a node do
// (node/exchange.hpp), but in the process's own memory.

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <utility>
#include <vector>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/group/deadlines.hpp"
#include "comm/group/group.hpp"
#include "comm/node/areas.hpp"
#include "comm/node/exchange.hpp"
#include "comm/node/transport.hpp"

namespace syncbn {
namespace comm {
namespace {

/// Holds what the threads of a group share.
class Team {
 public:
  Team(int ranks, Deadlines deadlines)
      : deadlines_(deadlines), areas_(node::Areas::in_process(static_cast<std::size_t>(ranks))) {}

  int size() const { return static_cast<int>(areas_->count()); }

  std::unique_ptr<node::Exchange> exchange(int rank) const {
    std::vector<int> names(areas_->count());
    std::iota(names.begin(), names.end(), 0);
    return std::make_unique<node::Exchange>(
        node::Ranks(areas_, static_cast<std::size_t>(rank), std::move(names)), deadlines_);
  }

  /// Returns the team of the ranks that gave this color in the `split`-th split. The first rank to
  /// ask makes it, the last of the `members` removes it from the list.
  std::shared_ptr<Team> child(std::int64_t split, int color, int members) {
    const std::scoped_lock lock(mutex_);
    const auto key = std::pair(split, color);
    Child& child = children_[key];
    if (!child.team) {
      child.team = std::make_shared<Team>(members, deadlines_);
    }
    std::shared_ptr<Team> team = child.team;
    if (++child.taken == members) {
      children_.erase(key);
    }
    return team;
  }

 private:
  struct Child {
    std::shared_ptr<Team> team;
    int taken = 0;
  };

  const Deadlines deadlines_;
  const std::shared_ptr<const node::Areas> areas_;
  std::mutex mutex_;
  std::map<std::pair<std::int64_t, int>, Child> children_;
};

class ThreadTransport final : public node::ExchangeTransport {
 public:
  ThreadTransport(std::shared_ptr<Team> team, int rank)
      : ExchangeTransport(team->exchange(rank)), team_(std::move(team)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return team_->size(); }

  std::unique_ptr<Transport> split(std::span<const int> colors) override {
    const int color = colors[static_cast<std::size_t>(rank_)];
    const auto members = static_cast<int>(std::ranges::count(colors, color));
    const auto rank =
        static_cast<int>(std::ranges::count(colors.first(static_cast<std::size_t>(rank_)), color));
    return std::make_unique<ThreadTransport>(team_->child(++splits_, color, members), rank);
  }

 private:
  std::shared_ptr<Team> team_;
  int rank_;
  std::int64_t splits_ = 0;
};

}  // namespace
}  // namespace comm

std::vector<Communicator> Communicator::threads(int ranks, Deadlines deadlines) {
  if (ranks < 1) {
    throw InvalidArgument(std::to_string(ranks) + " threads as ranks (at least 1)");
  }
  const auto team = std::make_shared<comm::Team>(ranks, comm::validated(deadlines));
  const std::uint64_t number = comm::Group::new_number();
  std::vector<Communicator> group;
  for (int rank = 0; rank < ranks; ++rank) {
    group.push_back(Communicator(std::make_shared<comm::Group>(
        std::make_unique<comm::ThreadTransport>(team, rank), number)));
  }
  return group;
}

}  // namespace syncbn
