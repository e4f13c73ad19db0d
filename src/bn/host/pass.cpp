// SPDX-License-Identifier: Apache-2.0
#include "bn/host/pass.hpp"

#include "bn/host/plain_message.hpp"

namespace syncbn::bn {

void Pass::pack(const ChannelRange& channels, double vote, std::vector<double>& message) {
  if (const ExactSums* sums = exact()) {
    sums->pack(channels, message);
  } else {
    pack_plain(channels, working_, message);
  }
  message.push_back(vote);
}

double Pass::unpack(const ChannelRange& channels, const std::vector<double>& message) {
  if (ExactSums* sums = exact()) {
    sums->unpack(channels, message.data());
  } else {
    unpack_plain(channels, message, working_);
  }
  return message.back();
}

void Pass::keep(const ChannelRange& channels) {
  if (ExactSums* sums = exact()) {
    sums->keep(channels);
  } else {
    working_.sums.back() = working_.count;
  }
}

}  // namespace syncbn::bn
