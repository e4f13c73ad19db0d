// SPDX-License-Identifier: Apache-2.0
#pragma once

// These kernels do what is done once per channel, in the steps of channels/finalize.hpp.

#include <cstdint>

#include "core/host_device.hpp"

#include "channels/finalize.hpp"
#include "kernels/cuda/atomics.hpp"
#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/each_channel.hpp"
#include "kernels/cuda/geometry.hpp"

namespace syncbn::kernels::cuda {

/// This kernel finalizes a forward in a single block: one thread counts the batch, and all need to
/// know what follows from the number of batches.
struct FinalizeForward {
  static constexpr int threads = 512;
  static constexpr int at_once = 1;
  struct Shared {
    channels::BatchShares shares;
  };

  channels::FinalizeStatistics statistics;
  channels::SetAffine<> affine;
  channels::MoveRunning<> move;
  channels::ChooseNextPivot<> choose;
  double* count;
  std::int64_t* batches;  ///< null without running statistics
  double momentum;
  bool cumulative;

  explicit FinalizeForward(const Finalize& of)
      : statistics{of.channels, of.sums, of.pivot, of.eps, of.out.mean, of.out.var, of.out.invstd},
        affine{of.gamma, of.beta, of.out.scale, of.out.shift},
        move{.running = of.running ? of.running->arrays : channels::RunningStatistics<>{},
             .shares = {},
             .n = 0,
             .mean = of.out.mean,
             .var = of.out.var},
        choose{.running = move.running,
               .start_share = 1,
               .mean = of.out.mean,
               .var = of.out.var,
               .eps = of.eps,
               .dtype = of.dtype,
               .nearness = 0,
               .pivot = of.pivot,
               .next_var = of.next_var},
        count(of.out.count),
        batches(of.running ? of.running->batches : nullptr),
        momentum(of.running ? of.running->momentum.value_or(1) : 1),
        cumulative(of.running && !of.running->momentum) {}

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t all = statistics.channels;
    const double n = statistics.sums[2 * all];
    const bool moves = batches != nullptr && n > 0;
    if (moves) {
      block.every_thread([&](int thread) {
        if (thread == 0) {
          shared.shares = channels::BatchShares::after(*batches, momentum, cumulative);
          *batches = shared.shares.next;
        }
      });
    }
    block.every_thread([&](int thread) {
      channels::MoveRunning<> of_batch = move;
      channels::ChooseNextPivot<> next = choose;
      of_batch.n = n;
      next.nearness = near_enough(n);
      if (moves) {
        of_batch.shares = shared.shares;
        next.start_share = shared.shares.start;
      }
      if (thread == 0) {
        *count = n;
      }
      for (std::int64_t c = thread; c < all; c += threads) {
        choose.pivot[c] = channels::to_pivot(choose.pivot[c], choose.dtype);
        statistics.of_channel(c);
        affine.of_channel(c, statistics.invstd[c]);
        if (moves) {
          of_batch.of_channel(c);
        }
        if (n > 0) {
          next.of_channel(c);
        }
      }
    });
  }

 private:
  /// Returns the limit of nearness for the next pivot. Terms of other types than f64 are of float.
  /// With a limit of 1, the share of k^2 in a sum's error (see nearness) does not exceed what such
  /// terms are off by themselves.
  SYNCBN_HOST_DEVICE double near_enough(double n) const {
    if (choose.next_var != nullptr) {
      return channels::nearness_of_exact_sums;
    }
    return choose.dtype == DType::f64 ? channels::nearness(n, choose.dtype) : 1;
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
        print += channels::history_of(c, arguments.pivot[c], value(arguments.running_mean, c),
                                      value(arguments.running_var, c)) +
                 channels::parameters_of(c, value(arguments.gamma, c), value(arguments.beta, c));
      }
      add_to(arguments.print, print);
    });
  }

 private:
  SYNCBN_HOST_DEVICE static double value(const channels::ConstFloats& array, std::int64_t c) {
    return array ? array[c] : 0;
  }
};

/// This step finalizes a backward.
struct FinalizeGradients {
  FinalizeBackward arguments;

  SYNCBN_HOST_DEVICE channels::ChannelRange channels() const { return {0, arguments.channels}; }
  SYNCBN_HOST_DEVICE void once() const {}
  SYNCBN_HOST_DEVICE void of_channel(std::int64_t c) const {
    const FinalizeBackward& of = arguments;
    const channels::SetGradientCoefficients coefficients{of.channels, of.sums,    of.invstd,
                                                         of.frozen,   of.mean_dz, of.grad_slope};
    coefficients.of_channel(c);
    if (of.dgamma) {
      const channels::AddParameterGradients<> gradients{of.channels, of.own_sums, of.invstd,
                                                        of.dgamma, of.dbeta};
      gradients.of_channel(c);
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
void run_finalize_backward(const FinalizeBackward& arguments, const Launcher& launch) {
  run_step(FinalizeGradients{arguments}, launch, "finalizing gradients");
}

}  // namespace syncbn::kernels::cuda
