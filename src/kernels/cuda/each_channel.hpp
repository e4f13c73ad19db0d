// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

#include "channels/for_each.hpp"
#include "kernels/cuda/geometry.hpp"

namespace syncbn::kernels::cuda {

/// This kernel takes a step of src/channels, one thread for each channel.
template <channels::ChannelStep Step>
struct EachChannel {
  static constexpr int threads = block_threads;
  static constexpr int at_once = 1;
  struct Shared {};

  Step step;

  constexpr std::int64_t blocks() const { return divide_up(step.channels().size(), threads); }

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    block.every_thread([&](int thread) {
      const std::int64_t k = block.index() * threads + thread;
      if (k == 0) {
        step.once();
      }
      if (k < step.channels().size()) {
        const std::int64_t c = step.channels().begin + k;
        channels::take_channels(step, {c, c + 1});
      }
    });
  }
};

template <channels::ChannelStep Step, class Launcher>
void run_step(const Step& step, const Launcher& launch, const char* doing) {
  const EachChannel<Step> kernel{step};
  launch(kernel.blocks(), kernel, doing);
}

}  // namespace syncbn::kernels::cuda
