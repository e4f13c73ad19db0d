// SPDX-License-Identifier: Apache-2.0
#pragma once

// These kernels make windows and counts of exact sums, before channels are tallied.

#include <array>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"

#include "kernels/cuda/atomics.hpp"
#include "kernels/cuda/exact.hpp"
#include "kernels/cuda/geometry.hpp"
#include "kernels/statistics.hpp"

namespace syncbn::kernels::cuda {

/// This kernel calls of.of_channel(c) for each channel, and of.once() once. Of has `pass`, too.
template <class Of>
struct EachChannel {
  static constexpr int threads = block_threads;
  static constexpr int at_once = 1;
  struct Shared {};

  Of of;

  constexpr std::int64_t blocks() const { return divide_up(of.pass.of.channels, threads); }

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    block.every_thread([&](int thread) {
      const std::int64_t c = block.index() * threads + thread;
      if (c == 0) {
        of.once();
      }
      if (c < of.pass.of.channels) {
        of.of_channel(c);
      }
    });
  }
};

template <class Of, class Launcher>
void for_each_channel(const Of& of, const Launcher& launch, const char* doing) {
  const EachChannel<Of> kernel{of};
  launch(kernel.blocks(), kernel, doing);
}

/// Sets all words of a channel's tally to 0.
SYNCBN_HOST_DEVICE inline void clear_tally(const ExactChannels& of, std::int64_t c) {
  for (int k = 0; k < tally_words; ++k) {
    of.tallies[k * of.channels + c] = 0;
  }
}

/// Sets a channel's first windows in a pass. If they are not known, the channel is marked as having
/// a term outside of its window.
SYNCBN_HOST_DEVICE inline void set_windows(const ExactChannels& of, std::int64_t c,
                                           const Windows& windows) {
  of.first_window[c] = windows.first;
  of.second_window[c] = windows.second;
  of.wanted[c] = windows.known ? 1 : 0;
  of.first_special[c] = of.second_special[c] = 0;
  clear_tally(of, c);
  of.tallies[(tally_words - 1) * of.channels + c] = windows.known ? 0 : ~std::uint64_t{0};
}

SYNCBN_HOST_DEVICE inline void set_count(const ExactChannels& of,
                                         const std::array<std::int64_t, count_words>& limbs) {
  for (int i = 0; i < count_words; ++i) {
    of.count[i] = limbs[static_cast<std::size_t>(i)];
  }
}

struct ForwardChoice : ChooseForward {
  SYNCBN_HOST_DEVICE void once() const { set_count(pass.of, limbs); }
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    double var = pass.of.var[c];
    if (running_mean != nullptr) {
      // The layer starts from running statistics of its own or of a file's.
      const bool any = *batches > 0;
      const double start = share_of_start(momentum, *batches);
      pivot[c] = any ? without_start(running_mean[c], 0, start) : running_mean[c];
      const double expected = without_start(running_var[c], 1, start);
      var = any ? (expected > 0 ? expected : 0) : -1;
    }
    pivot[c] = to_exact_pivot(pivot[c], pass.fine);
    set_windows(pass.of, c, forward_windows(var, eps, pivot[c]));
  }
};

struct BackwardChoice : ChooseBackward {
  SYNCBN_HOST_DEVICE void once() const { set_count(pass.of, limbs); }
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    set_windows(pass.of, c, backward_windows(pass.of.gradient_exponent[c], mean[c], invstd[c]));
  }
};

/// This kernel adds the weights to the count. Each block carries its limbs, so that they are below
/// 2^32 when they are added to those of the others.
struct WeightCount {
  static constexpr int threads = block_threads;
  static constexpr int at_once = 2;
  static constexpr std::int64_t most_blocks = 1024;
  struct Shared {
    std::int64_t limbs[count_words][block_threads];
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
      std::int64_t limbs[count_words] = {};
      const std::int64_t begin = block.index() * chunk();
      const std::int64_t end = begin + chunk() < arguments.size ? begin + chunk() : arguments.size;
      for (std::int64_t i = begin + thread; i < end; i += threads) {
        split_weight_into_limbs(arguments.weight[i], [&](int limb, std::int64_t part) {
          SYNCBN_UNROLL
          for (int k = 0; k < count_words; ++k) {  // registers cannot be indexed
            limbs[k] += k == limb ? part : 0;
          }
        });
      }
      SYNCBN_UNROLL
      for (int k = 0; k < count_words; ++k) {
        shared.limbs[k][thread] = limbs[k];
      }
    });
    block.every_thread([&](int thread) {
      if (thread < count_words) {
        std::int64_t sum = 0;
        for (int i = 0; i < threads; ++i) {
          sum += shared.limbs[thread][i];
        }
        shared.limbs[thread][0] = sum;
      }
    });
    block.every_thread([&](int thread) {
      if (thread == 0) {
        std::int64_t limbs[count_words];
        for (int k = 0; k < count_words; ++k) {
          limbs[k] = shared.limbs[k][0];
        }
        carry(limbs);
        for (int k = 0; k < count_words; ++k) {
          add_to(reinterpret_cast<std::uint64_t*>(arguments.count) + k,
                 static_cast<std::uint64_t>(limbs[k]));
        }
      }
    });
  }
};

/// Fits the windows of wanted channels to the group's largest terms, which its message tells.
struct WindowFit : FitWindows {
  SYNCBN_HOST_DEVICE void once() const {}
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const ExactChannels& of = pass.of;
    if (of.wanted[c] == 0) {
      return;
    }
    of.first_special[c] = canonical(word(c, 2 * code.words));
    of.second_special[c] = canonical(word(c, 2 * code.words + 1));
    const int second = exponent(c, code.words);
    of.first_window[c] = fitted_window(exponent(c, 0));
    of.second_window[c] = fitted_window(second);
    if (is_too_large_to_count(second)) {
      of.second_special[c] = std::numeric_limits<double>::infinity();
    }
    clear_tally(of, c);
  }

 private:
  SYNCBN_HOST_DEVICE double word(std::int64_t c, int k) const {
    return message[k * pass.of.channels + c];
  }
  SYNCBN_HOST_DEVICE int exponent(std::int64_t c, int first) const {
    for (int k = code.words; k-- > 0;) {
      if (const int digit = code.digits.largest(word(c, first + k)); digit != 0) {
        return k * code.digits.count + digit + least_exponent;
      }
    }
    return no_exponent;
  }
};

template <class Launcher>
void run_choose_windows(const ChooseForward& arguments, const Launcher& launch) {
  for_each_channel(ForwardChoice{arguments}, launch, "choosing windows of differences");
}
template <class Launcher>
void run_choose_windows(const ChooseBackward& arguments, const Launcher& launch) {
  for_each_channel(BackwardChoice{arguments}, launch, "choosing windows of gradients");
}
template <class Launcher>
void run_count_weights(const CountWeights& arguments, const Launcher& launch) {
  if (arguments.size != 0) {
    const WeightCount kernel{arguments};
    launch(kernel.blocks(), kernel, "counting weights");
  }
}
template <class Launcher>
void run_fit_windows(const FitWindows& arguments, const Launcher& launch) {
  for_each_channel(WindowFit{arguments}, launch, "fitting windows");
}

}  // namespace syncbn::kernels::cuda
