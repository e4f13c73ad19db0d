// SPDX-License-Identifier: Apache-2.0
#include "bn/pass.hpp"

#include "bn/plain_message.hpp"

namespace syncbn::bn {

void Pass::pack(const ChannelRange& channels, double wish, std::vector<double>& message) {
  if (const ExactPass* sums = exact()) {
    sums->pack(channels, wish, message);
  } else {
    pack_plain(channels, wish, working_, message);
  }
}

double Pass::unpack(const ChannelRange& channels, const std::vector<double>& message) {
  ExactPass* sums = exact();
  return sums != nullptr ? sums->unpack(channels, message)
                         : unpack_plain(channels, message, working_);
}

void Pass::keep(const ChannelRange& channels) {
  if (ExactPass* sums = exact()) {
    sums->keep(channels);
  } else {
    working_.sums.back() = working_.count;
  }
}

}  // namespace syncbn::bn
