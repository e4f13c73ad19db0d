// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn::channels {

/// Channels [begin, end).
struct ChannelRange {
  std::int64_t begin;
  std::int64_t end;

  SYNCBN_HOST_DEVICE std::int64_t size() const { return end - begin; }
  friend bool operator==(const ChannelRange&, const ChannelRange&) = default;
};

}  // namespace syncbn::channels
