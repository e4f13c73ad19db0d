// SPDX-License-Identifier: Apache-2.0
#pragma once

// Blocks do these operations to the same words, in whatever order. The words are integers, so the
// order does not show. On the host one thread runs at a time, and nothing need be atomic.

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
  *word += value;
#endif
}

SYNCBN_HOST_DEVICE inline void raise_to(std::uint64_t* word, std::uint64_t value) {
#ifdef __CUDA_ARCH__
  atomicMax(reinterpret_cast<AtomicWord*>(word), static_cast<AtomicWord>(value));
#else
  *word = *word < value ? value : *word;
#endif
}

SYNCBN_HOST_DEVICE inline void set_bits(std::uint64_t* word, std::uint64_t bits) {
#ifdef __CUDA_ARCH__
  atomicOr(reinterpret_cast<AtomicWord*>(word), static_cast<AtomicWord>(bits));
#else
  *word |= bits;
#endif
}

}  // namespace syncbn::kernels::cuda
