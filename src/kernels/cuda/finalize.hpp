// SPDX-License-Identifier: Apache-2.0
#pragma once

// These kernels do what is done once per channel, with the arithmetic of kernels/statistics.hpp.

#include <cstdint>

#include "core/host_device.hpp"

#include "kernels/cuda/atomics.hpp"
#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/geometry.hpp"
#include "kernels/statistics.hpp"

namespace syncbn::kernels::cuda {

/// Sets scale to gamma * invstd and shift to beta; gamma is 1 and beta 0 where they are null.
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

/// This kernel finalizes a forward in a single block: one thread counts the batch, and all need to
/// know what follows from the number of batches.
struct FinalizeForward {
  static constexpr int threads = 512;
  static constexpr int at_once = 1;
  struct Shared {
    double newest;  ///< share of this batch in the running statistics
    double start;   ///< share of their start in them, after this batch
    bool begins;    ///< whether there has been no batch before
  };

  std::int64_t channels;
  const double* sums;
  double* pivot;
  double eps;
  AffineArrays affine;
  double* mean;
  double* var;
  double* invstd;
  DType dtype;
  double* next_var;       ///< null, or [C]
  double* running_mean;   ///< null, or [C]
  double* running_var;    ///< null with running_mean
  double* start_mean;     ///< null with running_mean
  double* start_var;      ///< null with running_mean
  std::int64_t* batches;  ///< null with running_mean
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
        dtype(arguments.dtype),
        next_var(arguments.next_var),
        running_mean(nullptr),
        running_var(nullptr),
        start_mean(nullptr),
        start_var(nullptr),
        batches(nullptr),
        momentum(1),
        cumulative(false) {
    if (arguments.running) {
      const Running& running = *arguments.running;
      running_mean = running.mean;
      running_var = running.var;
      start_mean = running.start_mean;
      start_var = running.start_var;
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
          shared.begins = *batches == 0;
          const std::int64_t now = *batches + (moves ? 1 : 0);
          *batches = now;
          shared.newest = cumulative ? 1 / static_cast<double>(now) : momentum;
          shared.start = share_of_start(momentum, now);
        }
      });
    }
    block.every_thread([&](int thread) {
      for (std::int64_t c = thread; c < channels; c += threads) {
        const double about = to_pivot(pivot[c], dtype);
        const ChannelStatistics of = statistics_of(sums[c], sums[channels + c], n, about);
        mean[c] = of.mean;
        var[c] = of.var;
        invstd[c] = inverse_std(of.var, eps);
        affine.set(c, invstd[c]);
        if (n > 0) {
          move(c, of, n, shared);
        }
      }
    });
  }

 private:
  /// Moves the running statistics and what the next sums start from, after a batch that has
  /// elements.
  SYNCBN_HOST_DEVICE void move(std::int64_t c, const ChannelStatistics& of, double n,
                               const Shared& shared) const {
    ChannelStatistics next = of;
    if (running_mean != nullptr) {
      if (shared.begins) {
        start_mean[c] = running_mean[c];
        start_var[c] = running_var[c];
      }
      move_running(running_mean[c], running_var[c], of, n, shared.newest);
      next = {without_start(running_mean[c], start_mean[c], shared.start),
              without_start(running_var[c], start_var[c], shared.start)};
    }
    const bool exact = next_var != nullptr;
    pivot[c] =
        next_pivot(next.mean, of, eps, exact ? nearness_of_exact_sums : near_enough(n), dtype);
    if (exact) {
      next_var[c] = next_variance(next.var, of.var);
    }
  }

  /// Returns the limit of nearness for the next pivot. Terms of other types than f64 are of float.
  /// With a limit of 1, the share of k^2 in a sum's error (see nearness) does not exceed what such
  /// terms are off by themselves.
  SYNCBN_HOST_DEVICE double near_enough(double n) const {
    return dtype == DType::f64 ? nearness(n, dtype) : 1;
  }
};

/// This kernel takes the fingerprint, in a single block.
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
                            value(arguments.running_var, c)) +
                 parameters_of(c);
      }
      add_to(arguments.print, print);
    });
  }

 private:
  SYNCBN_HOST_DEVICE static double value(const double* array, std::int64_t c) {
    return array != nullptr ? array[c] : 0;
  }
  SYNCBN_HOST_DEVICE std::uint64_t parameters_of(std::int64_t c) const {
    const std::uint64_t print = scrambled(~static_cast<std::uint64_t>(c));
    return scrambled(scrambled(print ^ std::bit_cast<std::uint64_t>(value(arguments.gamma, c))) ^
                     std::bit_cast<std::uint64_t>(value(arguments.beta, c)));
  }
};

struct SetAffine {
  static constexpr int threads = block_threads;
  static constexpr int at_once = 1;
  struct Shared {};

  std::int64_t channels;
  const double* var;
  double eps;
  double* invstd;  ///< null, or written
  AffineArrays affine;

  constexpr std::int64_t blocks() const { return divide_up(channels, threads); }

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    block.every_thread([&](int thread) {
      const std::int64_t c = block.index() * threads + thread;
      if (c < channels) {
        const double inverse = inverse_std(var[c], eps);
        affine.set(c, inverse);
        if (invstd != nullptr) {
          invstd[c] = inverse;
        }
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
    arguments.mean_dz[c] = arguments.frozen ? 0 : arguments.sums[c] / n;
    arguments.slope[c] = arguments.frozen ? 0 : arguments.sums[all + c] / n * invstd * invstd;
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
                       arguments.invstd,
                       {arguments.gamma, arguments.beta, arguments.scale, arguments.shift}};
  launch(body.blocks(), body, "preparing scale and shift");
}

template <class Launcher>
void run_finalize_backward(const FinalizeBackward& arguments, const Launcher& launch) {
  const FinalizeGradients body{arguments};
  launch(body.blocks(), body, "finalizing gradients");
}

}  // namespace syncbn::kernels::cuda
