// SPDX-License-Identifier: Apache-2.0
#pragma once

// A step is an object with channels(), of_channel(c) and once(). If it has known(), what that
// returns is the same for all channels, and is handed to of_channel(c, known).

#include <cstdint>

#include "core/host_device.hpp"

#include "channels/channel_range.hpp"

namespace syncbn::channels {

/// Takes a step for these channels.
template <class Step>
SYNCBN_HOST_DEVICE void take_channels(const Step& step, const ChannelRange& channels) {
  if constexpr (requires { step.known(); }) {
    const auto known = step.known();
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      step.of_channel(c, known);
    }
  } else {
    for (std::int64_t c = channels.begin; c < channels.end; ++c) {
      step.of_channel(c);
    }
  }
}

/// Takes a step for all of its channels, on the host. On a device kernels/cuda/each_channel.hpp
/// does the same.
template <class Step>
void for_each_channel(const Step& step) {
  step.once();
  take_channels(step, step.channels());
}

}  // namespace syncbn::channels
