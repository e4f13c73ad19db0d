// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>

#include "core/host_device.hpp"

#include "channels/channel_range.hpp"

namespace syncbn::channels {

/// A KnowingStep is a ChannelStep whose known() returns what is the same for all channels.
template <class S>
concept KnowingStep = requires(const S& step, std::int64_t c) {
  step.of_channel(c, step.known());
};

template <class S>
concept PlainStep = requires(const S& step, std::int64_t c) {
  step.of_channel(c);
};

template <class S>
concept StepOfChannel = PlainStep<S> || KnowingStep<S>;

/// A ChannelStep says what is done for one channel, and what is done once, whatever the channels.
template <class S>
concept ChannelStep = requires(const S& step) {
  requires StepOfChannel<S>;
  { step.channels() } -> std::convertible_to<ChannelRange>;
  step.once();
};

/// Takes a step for these channels.
template <StepOfChannel Step>
SYNCBN_HOST_DEVICE void take_channels(const Step& step, const ChannelRange& channels) {
  if constexpr (KnowingStep<Step>) {
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
template <ChannelStep Step>
void for_each_channel(const Step& step) {
  step.once();
  take_channels(step, step.channels());
}

}  // namespace syncbn::channels
