// SPDX-License-Identifier: Apache-2.0
#include "bn/in_blocks.hpp"

#include <algorithm>

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

}  // namespace syncbn::bn
