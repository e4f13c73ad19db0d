// SPDX-License-Identifier: Apache-2.0
#include "bn/in_blocks.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <tuple>

namespace syncbn::bn {
namespace {

/// A pass of several ranks: which of its blocks are summed, and which of those are used.
class InBlocks {
 public:
  InBlocks(comm::Group& group, const comm::Descriptor& what, std::int64_t channels,
           std::int64_t blocks, Workspace& working, Steps& steps)
      : group_(group),
        what_(what),
        channels_(channels),
        blocks_(blocks),
        working_(working),
        steps_(steps) {
    working_.sums.resize(sums_length(channels));
    working_.unsettled.clear();
    // The ranks must agree on the number of blocks.
    what_.shared += static_cast<std::uint64_t>(blocks - 1) << 40;
  }

  /// Returns the sum of the wishes.
  double take_all(double wish) {
    while (posted_ < blocks_) {
      post(wish);
      while (used_ < posted_ && (posted_ == 1 || is_full() || has_arrived())) {
        use();
      }
    }
    while (used_ < blocks_) {
      use();
    }
    for (const std::int64_t k : working_.unsettled) {
      settle_and_use(steps_, block(channels_, blocks_, k));
    }
    return wishes_;
  }

 private:
  static constexpr std::size_t most_under_way = std::tuple_size_v<decltype(Workspace::messages)>;

  static std::size_t place(std::int64_t k) { return static_cast<std::size_t>(k) % most_under_way; }

  bool is_full() const { return posted_ - used_ == static_cast<std::int64_t>(most_under_way); }
  bool has_arrived() { return group_.arrived(what_, started_[place(used_)]); }

  void post(double wish) {
    const std::int64_t k = posted_++;
    const ChannelRange now = block(channels_, blocks_, k);
    steps_.sum(now);
    steps_.pack(now, wish, working_.messages[place(k)]);
    started_[place(k)] = group_.start(what_, working_.messages[place(k)]);
  }

  void use() {
    const std::int64_t k = used_++;
    const ChannelRange then = block(channels_, blocks_, k);
    group_.finish(what_, started_[place(k)]);
    wishes_ = steps_.unpack(then, working_.messages[place(k)]);
    if (steps_.is_settled(then)) {
      steps_.use(then);
    } else {
      working_.unsettled.push_back(k);
    }
  }

  comm::Group& group_;
  comm::Descriptor what_;
  std::int64_t channels_, blocks_;
  Workspace& working_;
  Steps& steps_;
  std::array<PendingSum, most_under_way> started_;
  std::int64_t posted_ = 0, used_ = 0;  ///< blocks
  double wishes_ = 0;
};

}  // namespace

void PlainMessage::pack(const ChannelRange& channels, double wish,
                        std::vector<double>& message) const {
  const auto all = static_cast<std::ptrdiff_t>(working_.sums.size() / 2);
  const auto first = working_.sums.begin() + channels.begin;
  message.clear();
  message.insert(message.end(), first, first + channels.size());
  message.insert(message.end(), first + all, first + all + channels.size());
  message.push_back(working_.count);
  message.push_back(wish);
}

double PlainMessage::unpack(const ChannelRange& channels, const std::vector<double>& message) {
  const auto all = static_cast<std::ptrdiff_t>(working_.sums.size() / 2);
  const auto to = working_.sums.begin() + channels.begin;
  std::copy_n(message.begin(), channels.size(), to);
  std::copy_n(message.begin() + channels.size(), channels.size(), to + all);
  working_.sums.back() = message[message.size() - 2];
  return message.back();
}

void exchange_again(comm::Group& group, const comm::Descriptor& what, const ChannelRange& channels,
                    Workspace& working) {
  if (group.size() == 1) {
    return;
  }
  std::vector<double>& message = working.repeated;
  PlainMessage content(working);
  content.pack(channels, 0, message);
  group.exchange(what, message);
  content.unpack(channels, message);
}

void in_blocks_here(std::int64_t channels, std::int64_t blocks, Workspace& working, Steps& steps) {
  working.sums.resize(sums_length(channels));
  for (std::int64_t k = 0; k < blocks; ++k) {
    const ChannelRange now = block(channels, blocks, k);
    steps.sum(now);
    steps.keep(now);
    settle_and_use(steps, now);
  }
}

double in_blocks(comm::Group& group, const comm::Descriptor& what, std::int64_t channels,
                 std::int64_t blocks, Workspace& working, Steps& steps, double wish) {
  if (group.size() == 1) {
    in_blocks_here(channels, blocks, working, steps);
    return wish;
  }
  try {
    return InBlocks(group, what, channels, blocks, working, steps).take_all(wish) / group.size();
  } catch (const std::exception& error) {
    group.abandon(error.what());
    throw;
  }
}

}  // namespace syncbn::bn
