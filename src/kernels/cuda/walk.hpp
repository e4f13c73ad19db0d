// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header takes a thread through its vectors.

#include <concepts>
#include <cstdint>
#include <utility>

#include "core/host_device.hpp"

#include "kernels/cuda/elements.hpp"

namespace syncbn::kernels::cuda {

/// An AllThere stands for a vector of which every element is there, without weights.
struct AllThere {
  static constexpr bool all = true;
  SYNCBN_HOST_DEVICE static constexpr bool weighted() { return false; }
  SYNCBN_HOST_DEVICE float weight(int) const { return 1; }
};

/// A SomeThere stands for a vector of which any element may be missing, in the tensor or because
/// its weight is 0.
template <class Steps>
struct SomeThere {
  static constexpr bool all = false;
  const Steps& steps;
  const Step<Steps::vector>& step;
  const float* weights;  ///< null, or [N, S]

  SYNCBN_HOST_DEVICE bool weighted() const { return weights != nullptr; }
  SYNCBN_HOST_DEVICE float weight(int i) const {
    if (i < step.lo || i >= step.hi) {
      return 0;
    }
    return weights == nullptr ? 1 : weights[steps.weight_place(step, i)];
  }
};

/// Loads the elements of a step; those that the tensor does not have there are 0.
template <class T, class There>
SYNCBN_HOST_DEVICE Words load_vector(const T* from, const Step<vector_size<T>>& step, bool aligned,
                                     const There&) {
  if constexpr (There::all) {
    return load_words(from + step.index);
  } else {
    return load_step(from, step, aligned);
  }
}
template <class T, class There>
SYNCBN_HOST_DEVICE void store_vector(T* to, const Step<vector_size<T>>& step, bool aligned,
                                     const There&, const Words& words) {
  if constexpr (There::all) {
    store_words(to + step.index, words);
  } else {
    store_step(to, step, aligned, words);
  }
}

/// A VectorReader reads vectors of elements of type `Element`, `batch` of them back to back, and
/// knows the coefficients of a channel. What load returns it has read of one vector.
template <class R>
concept VectorReader = requires(const R& reader, const Step<vector_size<typename R::Element>>& step,
                                std::int64_t c) {
  { R::batch } -> std::convertible_to<int>;
  { reader.coefficients(c) } -> std::convertible_to<typename R::Coefficients>;
  reader.load(step, true, AllThere{});
};

/// Loaded is what a VectorReader has read of a vector.
template <VectorReader R>
using Loaded = decltype(std::declval<const R&>().load(
    std::declval<const Step<vector_size<typename R::Element>>&>(), true, AllThere{}));

/// A Batch is up to kBatch vectors of a thread, all whole, that are loaded back to back.
template <int kBatch, int kVector, class LoadedVector>
struct Batch {
  Step<kVector> step[kBatch];
  LoadedVector loaded[kBatch];
  int count;

  template <class Steps, class Load>
  SYNCBN_HOST_DEVICE void load_next(Steps& steps, Load load) {
    count = steps.left() < kBatch ? steps.left() : kBatch;
    SYNCBN_UNROLL
    for (int j = 0; j < kBatch; ++j) {
      if (j < count) {
        step[j] = steps.next_whole();
        loaded[j] = load(step[j], AllThere{});
      }
    }
  }

  template <class Take>
  SYNCBN_HOST_DEVICE void take_each(Take take) const {
    SYNCBN_UNROLL
    for (int j = 0; j < kBatch; ++j) {
      if (j < count) {
        take(step[j], loaded[j], AllThere{});
      }
    }
  }
};

/// Calls load(step, there) for every vector of a thread, and take(step, loaded, there) with what
/// that returns. Each `kBatch` vectors are a batch, after which it calls end_batch().
///
/// Where all vectors are whole, aligned and without weights, as nearly everywhere, and `kAhead`
/// says so, a batch is loaded before the one in front of it is taken. Memory then always has
/// something to do, and the thread needs more registers.
template <int kBatch, bool kAhead = true, TensorWalk Walk, class Load, class Take, class EndBatch>
SYNCBN_HOST_DEVICE void for_each_vector(const Walk& walk, std::int64_t block, int thread,
                                        bool aligned, const float* weights, Load load, Take take,
                                        EndBatch end_batch) {
  auto steps = walk.steps(block, thread);
  if (aligned && weights == nullptr && steps.all_whole()) {
    using LoadedVector = decltype(load(std::declval<const Step<Walk::vector>&>(), AllThere{}));
    Batch<kBatch, Walk::vector, LoadedVector> next{};
    next.load_next(steps, load);
    while (next.count > 0) {
      if constexpr (kAhead) {
        const auto batch = next;
        next.load_next(steps, load);
        batch.take_each(take);
      } else {
        next.take_each(take);
        next.load_next(steps, load);
      }
      end_batch();
    }
    return;
  }
  while (steps.any()) {
    SYNCBN_UNROLL
    for (int j = 0; j < kBatch; ++j) {
      const Step<Walk::vector> step = steps.next();
      const SomeThere<typename Walk::Steps> there{steps, step, weights};
      take(step, load(step, there), there);
    }
    end_batch();
  }
}

}  // namespace syncbn::kernels::cuda
