// SPDX-License-Identifier: Apache-2.0
#include "bn/host/plain_message.hpp"

#include <algorithm>
#include <cstddef>

namespace syncbn::bn {

void pack_plain(const ChannelRange& channels, const Workspace& working,
                std::vector<double>& message) {
  const auto all = static_cast<std::ptrdiff_t>(working.sums.size() / 2);
  const auto first = working.sums.begin() + channels.begin;
  message.clear();
  message.insert(message.end(), first, first + channels.size());
  message.insert(message.end(), first + all, first + all + channels.size());
  message.push_back(working.count);
}

void unpack_plain(const ChannelRange& channels, const std::vector<double>& message,
                  Workspace& working) {
  const auto all = static_cast<std::ptrdiff_t>(working.sums.size() / 2);
  const auto to = working.sums.begin() + channels.begin;
  std::copy_n(message.begin(), channels.size(), to);
  std::copy_n(message.begin() + channels.size(), channels.size(), to + all);
  working.sums.back() = message[static_cast<std::size_t>(2 * channels.size())];
}

void exchange_again(comm::Group& group, const comm::Descriptor& what, const ChannelRange& channels,
                    Workspace& working) {
  if (group.size() == 1) {
    return;
  }
  std::vector<double>& message = working.repeated;
  pack_plain(channels, working, message);
  group.exchange(what, message);
  unpack_plain(channels, message, working);
}

}  // namespace syncbn::bn
