// SPDX-License-Identifier: Apache-2.0
#pragma once

// What is done once per channel, with the arithmetic of kernels/statistics.hpp.

#include <cstdint>

#include "core/host_device.hpp"

#include "kernels/cuda/atomics.hpp"
#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/geometry.hpp"
#include "kernels/statistics.hpp"

namespace syncbn::kernels::cuda {

/// gamma * invstd and beta, with the defaults filled in.
struct AffineArrays {
  const double* gamma;
  const double* beta;
  double* scale;
  double* shift;

  SYNCBN_HOST_DEVICE void set(std::int64_t c, double invstd) const {
    scale[c] = invstd * (gamma == nullptr ? 1 : gamma[c]);
    shift[c] = beta == nullptr ? 0 : beta[c];
  }
};

/// Kernel, of a single block: all of its threads must see the number of batches before it grows.
struct FinalizeForward {
  static constexpr int threads = 512;
  static constexpr int at_once = 1;
  struct Shared {
    double newest;  ///< share of this batch in running statistics
    double start;   ///< what they then hold of their start
  };

  std::int64_t channels;
  const double* sums;
  float* pivot;
  double eps;
  AffineArrays affine;
  double* mean;
  double* var;
  double* invstd;
  double* kept_var;       ///< null: none
  double* running_mean;   ///< likewise
  double* running_var;    ///< with it
  std::int64_t* batches;  ///< with it
  double momentum;
  bool cumulative;

  explicit FinalizeForward(const Finalize& arguments)
      : channels(arguments.channels),
        sums(arguments.sums),
        pivot(arguments.pivot),
        eps(arguments.eps),
        affine{arguments.gamma, arguments.beta, arguments.scale, arguments.shift},
        mean(arguments.mean),
        var(arguments.var),
        invstd(arguments.invstd),
        kept_var(arguments.kept_var),
        running_mean(nullptr),
        running_var(nullptr),
        batches(nullptr),
        momentum(1),
        cumulative(false) {
    if (arguments.running) {
      const Running& running = *arguments.running;
      running_mean = running.mean;
      running_var = running.var;
      batches = running.batches;
      momentum = running.momentum.value_or(1);
      cumulative = !running.momentum.has_value();
    }
  }

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const double n = sums[2 * channels];
    const bool moves = running_mean != nullptr && n > 0;
    if (running_mean != nullptr) {
      block.every_thread([&](int thread) {
        if (thread == 0) {
          const std::int64_t now = *batches + (moves ? 1 : 0);
          *batches = now;
          shared.newest = cumulative ? 1 / static_cast<double>(now) : momentum;
          shared.start = share_of_start(momentum, now);
        }
      });
    }
    block.every_thread([&](int thread) {
      for (std::int64_t c = thread; c < channels; c += threads) {
        const ChannelStatistics of = statistics_of(sums[c], sums[channels + c], n, pivot[c]);
        mean[c] = of.mean;
        var[c] = of.var;
        invstd[c] = inverse_std(of.var, eps);
        affine.set(c, invstd[c]);
        if (kept_var != nullptr && n > 0) {
          kept_var[c] = of.var;
        }
        if (moves) {
          move_running(running_mean[c], running_var[c], of, n, shared.newest);
        }
        if (running_mean != nullptr) {
          pivot[c] = foretold_pivot(running_mean[c], shared.start);
        } else if (n > 0) {
          pivot[c] = to_pivot(of.mean);
        }
      }
    });
  }
};

/// Kernel, of a single block.
struct StateFingerprint {
  static constexpr int threads = 512;
  static constexpr int at_once = 1;
  struct Shared {};

  History arguments;

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    block.every_thread([&](int thread) {
      if (thread == 0) {
        *arguments.print = 0;
      }
    });
    block.every_thread([&](int thread) {
      std::uint64_t print = 0;
      for (std::int64_t c = thread; c < arguments.channels; c += threads) {
        print += history_of(c, arguments.pivot[c], value(arguments.running_mean, c),
                            value(arguments.running_var, c));
      }
      add_to(arguments.print, print);
    });
  }

 private:
  SYNCBN_HOST_DEVICE static double value(const double* array, std::int64_t c) {
    return array != nullptr ? array[c] : 0;
  }
};

struct SetAffine {
  static constexpr int threads = block_threads;
  static constexpr int at_once = 1;
  struct Shared {};

  std::int64_t channels;
  const double* var;
  double eps;
  AffineArrays affine;

  constexpr std::int64_t blocks() const { return divide_up(channels, threads); }

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    block.every_thread([&](int thread) {
      const std::int64_t c = block.index() * threads + thread;
      if (c < channels) {
        affine.set(c, inverse_std(var[c], eps));
      }
    });
  }
};

struct FinalizeGradients {
  static constexpr int threads = block_threads;
  static constexpr int at_once = 1;
  struct Shared {};

  FinalizeBackward arguments;

  constexpr std::int64_t blocks() const { return divide_up(arguments.channels, threads); }

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    block.every_thread([&](int thread) {
      const std::int64_t c = block.index() * threads + thread;
      if (c < arguments.channels) {
        of_channel(c);
      }
    });
  }

 private:
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const std::int64_t all = arguments.channels;
    const double count = arguments.sums[2 * all];
    const double n = count > 0 ? count : 1;
    const double invstd = arguments.invstd[c];
    arguments.mean_dz[c] = arguments.sums[c] / n;
    arguments.slope[c] = arguments.sums[all + c] / n * invstd * invstd;
    if (arguments.dbeta != nullptr) {
      arguments.dbeta[c] += arguments.own_sums[c];
    }
    if (arguments.dgamma != nullptr) {
      arguments.dgamma[c] += arguments.own_sums[all + c] * invstd;
    }
  }
};

template <class Launcher>
void run_finalize(const Finalize& arguments, const Launcher& launch) {
  launch(1, FinalizeForward(arguments), "finalizing statistics");
}

template <class Launcher>
void run_fingerprint(const History& arguments, const Launcher& launch) {
  launch(1, StateFingerprint{arguments}, "taking the fingerprint of statistics");
}

template <class Launcher>
void run_affine(const Affine& arguments, const Launcher& launch) {
  const SetAffine body{arguments.channels,
                       arguments.var,
                       arguments.eps,
                       {arguments.gamma, arguments.beta, arguments.scale, arguments.shift}};
  launch(body.blocks(), body, "preparing scale and shift");
}

template <class Launcher>
void run_finalize_backward(const FinalizeBackward& arguments, const Launcher& launch) {
  const FinalizeGradients body{arguments};
  launch(body.blocks(), body, "finalizing gradients");
}

}  // namespace syncbn::kernels::cuda
