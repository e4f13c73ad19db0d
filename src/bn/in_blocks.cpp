// SPDX-License-Identifier: Apache-2.0
#include "bn/in_blocks.hpp"

#include <algorithm>
#include <array>
#include <exception>

namespace syncbn::bn {

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
  std::vector<double>& message = working.messages[2];
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
    steps.use(now);
  }
}

double in_blocks(comm::Group& group, const comm::Descriptor& what, std::int64_t channels,
                 std::int64_t blocks, Workspace& working, Steps& steps, double wish) {
  if (group.size() == 1) {
    in_blocks_here(channels, blocks, working, steps);
    return wish;
  }
  working.sums.resize(sums_length(channels));
  comm::Descriptor in_so_many = what;  // the ranks must agree on the number of blocks
  in_so_many.shared += static_cast<std::uint64_t>(blocks - 1) << 40;
  double wishes = 0;
  std::array<PendingSum, 2> started;
  const auto arrive = [&](std::int64_t k) {
    const auto place = static_cast<std::size_t>(k % 2);
    const ChannelRange then = block(channels, blocks, k);
    group.finish(in_so_many, started[place]);
    wishes = steps.unpack(then, working.messages[place]);
    steps.use(then);
  };
  try {
    for (std::int64_t k = 0; k < blocks; ++k) {
      const auto place = static_cast<std::size_t>(k % 2);
      const ChannelRange now = block(channels, blocks, k);
      steps.sum(now);
      steps.pack(now, wish, working.messages[place]);
      started[place] = group.start(in_so_many, working.messages[place]);
      if (k != 1) {
        arrive(std::max<std::int64_t>(k - 1, 0));
      }
    }
    if (blocks > 1) {
      arrive(blocks - 1);
    }
  } catch (const std::exception& error) {
    group.abandon(error.what());
    throw;
  }
  return wishes / group.size();
}

}  // namespace syncbn::bn
