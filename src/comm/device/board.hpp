// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn::comm {

/// Shows the host how far a rank's messages have come on its device. Lies in pinned memory: the
/// device writes it, and the host reads it at any time without waiting for the device.
struct Board {
  std::uint64_t started = 0;          ///< number of the message begun last: 1, 2, ...; 0: none
  std::uint64_t started_plan = 0;     ///< number of its plan (agreement.hpp)
  std::uint64_t finished = 0;         ///< number of the message finished last; 0: none
  std::uint64_t disagreed = 0;        ///< number of the first that the ranks disagreed on; 0: none
  std::uint64_t disagreed_plan = 0;   ///< number of its plan
  std::uint64_t disagreed_state = 0;  ///< this rank's value at its DeviceMessageView::state
  std::uint64_t cancelled = 0;        ///< 1 once the host has given up and sums become NaN
};

/// Writes a word for the other side (host or device), which sees what was written before it as
/// well.
SYNCBN_HOST_DEVICE inline void post(std::uint64_t& word, std::uint64_t value) {
#ifdef __CUDA_ARCH__
  __threadfence_system();
  *static_cast<volatile std::uint64_t*>(&word) = value;
#else
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);
#endif
}

/// Writes a word that the other side may be reading, before the one that it is told by (post).
SYNCBN_HOST_DEVICE inline void note(std::uint64_t& word, std::uint64_t value) {
#ifdef __CUDA_ARCH__
  *static_cast<volatile std::uint64_t*>(&word) = value;
#else
  __atomic_store_n(&word, value, __ATOMIC_RELAXED);
#endif
}

/// Reads a word that the other side writes.
SYNCBN_HOST_DEVICE inline std::uint64_t look(const std::uint64_t& word) {
#ifdef __CUDA_ARCH__
  return *static_cast<const volatile std::uint64_t*>(&word);
#else
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
#endif
}

}  // namespace syncbn::comm
