// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

#include "channels/count_limbs.hpp"
#include "kernels/cuda/atomics.hpp"
#include "kernels/cuda/exact.hpp"
#include "kernels/cuda/geometry.hpp"

namespace syncbn::kernels::cuda {

/// This kernel adds the weights to the count. Each block carries its limbs, so that they are below
/// 2^32 when they are added to those of the others.
struct WeightCount {
  static constexpr int threads = block_threads;
  static constexpr int at_once = 2;
  static constexpr std::int64_t most_blocks = 1024;
  struct Shared {
    std::int64_t limbs[channels::count_words][block_threads];
  };

  CountWeights arguments;

  constexpr std::int64_t chunk() const {
    constexpr std::int64_t unit = 8 * block_threads;
    return divide_up(divide_up(arguments.size, most_blocks), unit) * unit;
  }
  constexpr std::int64_t blocks() const { return divide_up(arguments.size, chunk()); }

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    block.every_thread([&](int thread) {
      std::int64_t limbs[channels::count_words] = {};
      const std::int64_t begin = block.index() * chunk();
      const std::int64_t end = begin + chunk() < arguments.size ? begin + chunk() : arguments.size;
      for (std::int64_t i = begin + thread; i < end; i += threads) {
        channels::split_weight_into_limbs(arguments.weight[i], [&](int limb, std::int64_t part) {
          SYNCBN_UNROLL
          for (int k = 0; k < channels::count_words; ++k) {  // registers cannot be indexed
            limbs[k] += k == limb ? part : 0;
          }
        });
      }
      SYNCBN_UNROLL
      for (int k = 0; k < channels::count_words; ++k) {
        shared.limbs[k][thread] = limbs[k];
      }
    });
    block.every_thread([&](int thread) {
      if (thread < channels::count_words) {
        std::int64_t sum = 0;
        for (int i = 0; i < threads; ++i) {
          sum += shared.limbs[thread][i];
        }
        shared.limbs[thread][0] = sum;
      }
    });
    block.every_thread([&](int thread) {
      if (thread == 0) {
        std::int64_t limbs[channels::count_words];
        for (int k = 0; k < channels::count_words; ++k) {
          limbs[k] = shared.limbs[k][0];
        }
        channels::carry(limbs);
        for (int k = 0; k < channels::count_words; ++k) {
          add_to(reinterpret_cast<std::uint64_t*>(arguments.count) + k,
                 static_cast<std::uint64_t>(limbs[k]));
        }
      }
    });
  }
};

template <class Launcher>
void run_count_weights(const CountWeights& arguments, const Launcher& launch) {
  if (arguments.size != 0) {
    const WeightCount kernel{arguments};
    launch(kernel.blocks(), kernel, "counting weights");
  }
}

}  // namespace syncbn::kernels::cuda
