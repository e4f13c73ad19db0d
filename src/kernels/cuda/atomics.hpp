// SPDX-License-Identifier: Apache-2.0
#pragma once

// Blocks do these operations to the same words, in whatever order. The words are integers, so the
// order does not show.

#include <atomic>
#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn::kernels::cuda {

#ifdef __CUDA_ARCH__
using AtomicWord = unsigned long long;
#endif

SYNCBN_HOST_DEVICE inline void add_to(std::uint64_t* word, std::uint64_t value) {
#ifdef __CUDA_ARCH__
  atomicAdd(reinterpret_cast<AtomicWord*>(word), static_cast<AtomicWord>(value));
#else
  std::atomic_ref(*word).fetch_add(value, std::memory_order_relaxed);
#endif
}

SYNCBN_HOST_DEVICE inline void raise_to(std::uint64_t* word, std::uint64_t value) {
#ifdef __CUDA_ARCH__
  atomicMax(reinterpret_cast<AtomicWord*>(word), static_cast<AtomicWord>(value));
#else
  const std::atomic_ref shared(*word);
  std::uint64_t before = shared.load(std::memory_order_relaxed);
  while (before < value &&
         !shared.compare_exchange_weak(before, value, std::memory_order_relaxed)) {
  }
#endif
}

SYNCBN_HOST_DEVICE inline void set_bits(std::uint64_t* word, std::uint64_t bits) {
#ifdef __CUDA_ARCH__
  atomicOr(reinterpret_cast<AtomicWord*>(word), static_cast<AtomicWord>(bits));
#else
  std::atomic_ref(*word).fetch_or(bits, std::memory_order_relaxed);
#endif
}

}  // namespace syncbn::kernels::cuda
